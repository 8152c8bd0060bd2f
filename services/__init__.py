"""Six services, one inner shape: `core` decides, `shell` acts, `service` joins the two, `__main__` runs it."""
