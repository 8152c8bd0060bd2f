"""What comes of a client before any of it is read as HTTP: who is behind the connection, and whether there is time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from libs.common.keys import address_of, is_within
from libs.common.telemetry.logging import fields
from libs.common.units import KIB
from services.router.core import proxy_protocol
from services.router.shell.edge.intake import Intake
from services.router.shell.edge.outgoing import Outgoing

if TYPE_CHECKING:
    from services.router.shell.edge.server import Edge
    from services.router.shell.request.exchange import Exchange

log = logging.getLogger(__name__)

UNREAD_BYTES_MAX: Final = 64 * KIB  # Of a request that waits for its turn, until we take no more of it.


class Entrance(Outgoing):
    """One client's, as its requests come in."""

    __slots__ = ("_arrivals", "_edge", "_exchange", "_intake", "_is_deaf", "_is_lingering", "_preface", "unread")

    def __init__(self, edge: Edge) -> None:
        super().__init__()
        self._edge = edge
        self._arrivals = edge.gateway.arrivals
        self._intake = Intake(edge.judge)
        self._exchange: Exchange | None = None  # The request that is being answered.
        self._preface = b"" if edge.is_behind_proxy else None  # What came of it; None once it is read.
        self._is_lingering = False  # It was told that we read no more, and may read that.
        self._is_deaf = False  # Nothing is read of it for now.
        self.unread = b""  # What came of a request that waits for its turn.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        super().connection_made(transport)
        self._intake.peer = (transport.get_extra_info("peername") or ("",))[0]

    def data_received(self, data: bytes) -> None:
        """Have it read now, or let it wait where there is no time."""
        if self._is_lingering:
            return
        if self.unread:
            self._wait_on(data)
            return
        if self.is_paused and self._exchange is None:  # It asks on, and takes none of what it was answered.
            self._be_deaf()
        if self._preface is not None:
            data = self._read_preface(self._preface + data)
            if not data:
                return
        if self._exchange is not None or not self._intake.is_between:
            self._go_on(data)
        elif self._arrivals.admits():
            self._begin(data)
        elif self._arrivals.refuses():
            self._begin(data, is_shed=True)
        else:
            self.unread = data
            self._arrivals.wait(self)

    def take_turn(self, *, is_served: bool) -> None:
        """Have read what waited, or send it away."""
        data, self.unread = self.unread, b""
        self._hear_again()
        if self.is_open:
            self._begin(data, is_shed=not is_served)

    def _begin(self, data: bytes, *, is_shed: bool = False) -> None:
        """A request begins; ``is_shed``: there is no time for it."""
        raise NotImplementedError

    def _go_on(self, data: bytes) -> None:
        """More of a request comes, or one more behind it."""
        raise NotImplementedError

    def _wait_on(self, data: bytes) -> None:
        self.unread += data
        self._arrivals.grew(len(data))
        if len(self.unread) > UNREAD_BYTES_MAX:
            self._be_deaf()

    def _be_deaf(self) -> None:
        if not self._is_deaf:
            self._is_deaf = True
            self.transport.pause_reading()

    def _hear_again(self) -> None:
        if self._is_deaf and not self.is_paused and not self.unread:
            self._is_deaf = False
            self.transport.resume_reading()

    def _read_preface(self, data: bytes) -> bytes:
        """Learn who the client is from the load balancer; returns what comes after."""
        try:
            if not is_within(address_of(self._intake.peer), self._edge.gateway.trusted):
                raise proxy_protocol.BadPreface("not a load balancer that we trust")
            found = proxy_protocol.read(data)
        except proxy_protocol.BadPreface as wrong:
            log.warning("connection refused", extra=fields(reason=str(wrong)))
            self.abort()
            return b""
        self._preface = data if found is None else None
        if found is None:
            return b""
        self._intake.peer = found.client or self._intake.peer
        return data[found.length :]
