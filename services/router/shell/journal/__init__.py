"""The usage journal: what is owed, kept until the ledger has it."""
