"""The contract in Python: one module per owner of events, the envelope they travel in, and the catalog of all."""
