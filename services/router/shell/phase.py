"""How far a generating request is."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """How far the request is."""

    ADMITTED = 1
    ASKING = 2
    ANSWERING = 3
    ENDING = 4  # The last row is being written, or waits for the socket.
    OVER = 5
