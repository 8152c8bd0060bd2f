"""A relay that only passes bytes on, with the router's loop: what no proxy in Python can do without.

``python -m tests.bench.peers.bare PORT ENGINE_PORT``. It finds where a message ends and nothing more: no check, no
limit, no bill, no retry.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from libs.common.collector import calm_collector

END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length: "


def whole_bytes(head: bytes) -> int | None:
    """How long the message is that begins so; None while that is not known."""
    end = head.find(END)
    at = head.find(LENGTH, 0, end)
    return None if at < 0 else end + len(END) + int(head[at + len(LENGTH) : head.index(b"\r\n", at + len(LENGTH))])


class Relay(asyncio.Protocol):
    """One connection, and the one at the other side of it."""

    def __init__(self, other: Relay | None, engine_port: int) -> None:
        self.other = other
        self._engine_port = engine_port
        self._waiting: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Dial the engine, if it is a client; else send it what waits."""
        self.transport = cast(asyncio.Transport, transport)
        if self.other is None:
            loop = asyncio.get_running_loop()
            self._dialling = loop.create_task(
                loop.create_connection(lambda: Relay(self, self._engine_port), "127.0.0.1", self._engine_port)
            )
        else:
            self.other.meet(self)

    def meet(self, engine: Relay) -> None:
        """The engine is there."""
        self.other = engine
        for each in self._waiting:
            self.data_received(each)

    def data_received(self, data: bytes) -> None:
        """Note where the message ends, and pass it on."""
        if self.other is None or self.other.transport is None:
            self._waiting.append(data)
            return
        if self._missing <= 0:
            self._missing = whole_bytes(data) or 0
        self._missing -= len(data)
        self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Who is left has nobody to talk to."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()


async def serve(port: int, engine_port: int) -> None:
    """Until we are ended."""
    await calm_collector()
    server = await asyncio.get_running_loop().create_server(lambda: Relay(None, engine_port), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
