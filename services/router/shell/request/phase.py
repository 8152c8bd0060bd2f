"""How far a generating request is."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Phase(Enum):
    """How far the request is."""

    WAITING = 1  # For a replica; nothing is written of it yet.
    HELD = 2  # For a replica again: its engine went before the client had any of an answer. Its first row is written.
    ASKING = 3
    ANSWERING = 4
    ENDING = 5  # The last row is being written, or waits for the socket.
    OVER = 6


# In Python 3.11 it takes five times as long to find a member in its class as a name in a module: 20 times a request.
WAITING, HELD, ASKING, ANSWERING, ENDING, OVER = Phase
ENDED: Final = (ENDING, OVER)
