"""A client's connection as its request sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from services.router.core.refusals import HttpRefusal


class Client(Protocol):
    """The client's connection, as its request sees it."""

    is_open: bool
    is_paused: bool
    transport: asyncio.Transport
    written: int  # Bytes ever handed to the socket,
    taken: int  # and how many of them it had taken when it was last asked.

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket."""

    def sent(self) -> int:
        """How many of them the socket has taken by now."""

    def when_drained(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the socket has taken all; never, if the connection is lost before."""

    def refuse(self, refusal: HttpRefusal, *, request_id: str, keep_alive: bool) -> None:
        """Answer with an error."""

    def over(self, *, keep_alive: bool) -> None:
        """The answer is whole: take the next request, or close."""

    def hold_answer(self, tenant_id: str, size_bytes: int) -> None:
        """So much of its answer is kept until all of it came. Raises HttpRefusal if there is no room for that."""

    def prompt_gone(self) -> None:
        """The request keeps nothing of its body any more."""

    def abort(self) -> None:
        """Give the connection up, with what is unsent."""
