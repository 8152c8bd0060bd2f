"""One request, from the moment it was read to its last byte: let in, asked, answered, billed."""
