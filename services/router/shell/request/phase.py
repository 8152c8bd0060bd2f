"""How far a generating request is."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """How far the request is."""

    WAITING = 1  # For a replica; nothing is written of it yet.
    ASKING = 2
    ANSWERING = 3
    ENDING = 4  # The last row is being written, or waits for the socket.
    OVER = 5
