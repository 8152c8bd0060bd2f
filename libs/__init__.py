"""What the six services share: the contract (`common`), the command line (`cli`), the simulated world (`twin`)."""
