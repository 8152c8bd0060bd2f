"""Serving ASGI inside a process that has its own signal handlers and its own logs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import uvicorn

AsgiApp = Callable[..., Awaitable[Any]]


TICK_S: Final = 1.0  # How old the Date of an answer may be; uvicorn's own loop runs ten times a second.
A_SECOND: Final = 0  # Of the ticks that uvicorn counts, one at which it sets the date.


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process that we run in."""
        yield

    async def main_loop(self) -> None:
        """Keep the date right until cancelled: nothing else tells us to end."""
        while not await self.on_tick(A_SECOND):
            await asyncio.sleep(TICK_S)


async def serve(app: AsgiApp, *, host: str, port: int, lifespan: bool = False) -> None:
    """Serve until cancelled. Raises OSError if the port is taken."""
    config = uvicorn.Config(
        app,
        interface="asgi3",  # Guessed, a bound method is taken for the older interface and every request fails.
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="on" if lifespan else "off",
        proxy_headers=False,  # Else it would believe X-Forwarded-For of every loopback peer, whatever our settings say.
    )
    server = _Server(config)
    try:
        await server.serve()
    except asyncio.CancelledError:
        server.should_exit = True
        raise
