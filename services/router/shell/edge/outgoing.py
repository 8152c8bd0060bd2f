"""The writing half of a client's connection: what was handed to the socket, and how much of it the socket took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from libs.common.units import MIB

MOVED_BYTES: Final = (
    1 * MIB
)  # In the 75 s of a connection's patience: the slowest modem, and an end to whoever trickles.
WRITE_BUFFER_BYTES: Final = 64 * 1024  # A reader this far behind makes us pause the engine's stream.


class Outgoing(asyncio.Protocol):
    """Counts what leaves: a bill says what the socket took, not what was written."""

    __slots__ = (
        "_drained", "_is_aborted", "_is_lost", "_looked", "is_open", "is_paused", "taken", "transport", "written",
    )  # fmt: skip

    def __init__(self) -> None:
        self._is_aborted = self._is_lost = False
        self.taken = self._looked = 0
        self._drained: Callable[[], None] | None = None
        self.written = 0
        self.is_open = False
        self.is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is somebody to write to."""
        # uvloop's transports are such without saying so: an isinstance would be wrong.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if exc is None and not self._is_aborted:
            self.taken = self.written  # An orderly close comes after the last byte.
        self._is_lost = True
        self.is_open = False
        self._drained = None

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """It does again, or, where somebody waits for that, has taken all."""
        self.is_paused = False
        drained, self._drained = self._drained, None
        if drained is not None:
            self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
            drained()

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket."""
        if self.is_open and data:
            transport = self.transport
            transport.write(data)
            self.written += len(data)
            taken = self.written - transport.get_write_buffer_size()
            if taken > self.taken:
                self.taken = taken  # Should the client reset its connection, nobody could say it then.

    def sent(self) -> int:
        """How many bytes the socket has taken."""
        if not self._is_lost and self.taken != self.written:
            taken = self.written - self.transport.get_write_buffer_size()
            if taken > self.taken:
                self.taken = taken
        return self.taken

    def moves(self) -> bool:
        """Whether its socket has more to take, and took enough of it since this was asked last."""
        before, self._looked = self._looked, self.sent()
        return before + MOVED_BYTES <= self._looked < self.written

    def when_drained(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the socket has taken all that was written."""
        if not self.is_open:
            return
        if self.transport.get_write_buffer_size() == 0:
            then()
            return
        self._drained = then
        self.transport.set_write_buffer_limits(high=0)  # Now `resume_writing` means: empty.

    def abort(self) -> None:
        """Give the connection up, with what is unsent."""
        self.sent()
        self.is_open = False
        self._is_aborted = True
        self.transport.abort()
