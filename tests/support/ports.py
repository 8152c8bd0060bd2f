"""Ports that are a test's own: nobody else is given one of them as long as the test run lives."""

from __future__ import annotations

import socket
from typing import Final

_HELD: Final[list[socket.socket]] = []


def free_port() -> int:
    """A port of 127.0.0.1 for a server that sets SO_REUSEADDR, as all of ours do.

    It stays bound here, and never listens: so the kernel gives it to no other process that asks for any port, and to no
    client's end of a connection, between now and the server's start, or between two lives of the server.
    """
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # Only now: set before, the port could be another's too.
    _HELD.append(held)
    port: int = held.getsockname()[1]
    return port
