"""The world of the router: sockets, engines, the usage journal, the bus."""
