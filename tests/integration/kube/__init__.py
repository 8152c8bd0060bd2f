"""A real Kubernetes API server for tests: a Go program on the Kubernetes modules, built once, and what runs on it."""
