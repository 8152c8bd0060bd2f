"""What endpoint-api touches: HTTP, the catalogue's files, metrics."""
