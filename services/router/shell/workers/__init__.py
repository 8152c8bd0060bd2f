"""The processes of one router, and the memory that they share."""
