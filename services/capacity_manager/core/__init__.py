"""The claim as values: what it knows, where it stands, what it wants, what to tell, and how to get there."""
