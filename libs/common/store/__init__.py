"""What a service remembers: `port` says the promises, `sql` (SQLite, PostgreSQL) and `memory` keep them."""
