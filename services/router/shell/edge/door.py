"""Where clients connect: each is let in as it comes, and many in a turn of the event loop when many come at once.

Of a listening socket uvloop takes one connection in a turn (libuv since 1.45). Where turns are long, as under load, new
clients would wait for seconds behind the door; so in such turns the others that wait there are let in by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 2048
HANDSHAKE_S: Final = 10.0
LET_IN_MOST: Final = 64  # In a turn, by hand; each takes some 50 µs, which is twice what it costs uvloop.


class Door:
    """A socket that is bound, and whoever comes to it."""

    def __init__(
        self, bound: socket.socket, make: Callable[[], asyncio.Protocol], *, tls: ssl.SSLContext | None
    ) -> None:
        self._bound = bound
        self._make = make
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._coming: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether clients are let in."""
        return self._server is not None

    async def open(self) -> None:
        """Let clients in."""
        self._server = await asyncio.get_running_loop().create_server(
            self._make, sock=self._bound, backlog=BACKLOG, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
        )

    def close(self) -> None:
        """Let nobody in any longer."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def let_in(self) -> None:
        """Let in those who wait behind the first."""
        if self._server is None:
            return
        loop = asyncio.get_running_loop()
        for _ in range(LET_IN_MOST):
            try:
                accepted, _ = self._bound.accept()
            except OSError:  # Nobody, or no descriptor for him: then the server sees to it that this is tried again.
                return
            accepted.setblocking(False)
            coming = loop.create_task(self._introduce(accepted))
            self._coming.add(coming)
            coming.add_done_callback(self._coming.discard)

    async def _introduce(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # It left, or could not agree on TLS: as with those whom the server lets in.
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make, accepted, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
            )

    @property
    def _handshake_s(self) -> float | None:
        return HANDSHAKE_S if self._tls else None
