"""`millrace`, the command: what customers and operators type, and the local profile that runs all on one machine."""
