"""Clients' side: the listening socket, its connections, reading requests off them."""
