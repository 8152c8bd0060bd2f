"""The doors: one table of commands, behind HTTP and behind the bus, so that both mean the same by construction."""
