"""What tenants, projects and keys may use: known, shared between workers, debited."""
