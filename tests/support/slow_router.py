"""``python -m tests.support.slow_router [fault]``: the router with a moment between each bill and what follows it.

A SIGKILL seldom hits the microseconds between a commit and the next write; here it finds them a tenth of a second wide.
``one-behind`` plants the fault that reliability.md L21 found: each piece is held until the next one comes, so that the
bill is committed together with the last of them, before the client has it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from services.router.__main__ import main
from services.router.core.relay import StreamedAnswer
from services.router.shell.journal.durable import Durable, Then

MOMENT_S: Final = 0.1


def widen() -> None:
    """Let what follows a durable row wait for a moment."""
    told_at_once = Durable.then

    def told_later(self: Durable, told: Then) -> None:
        def in_a_moment(error: BaseException | None) -> None:
            asyncio.get_running_loop().call_later(MOMENT_S, told, error)

        told_at_once(self, in_a_moment)

    Durable.then = told_later  # type: ignore[method-assign]


def hold_one_behind() -> None:
    """Plant the fault."""
    feed, terminal_frame = StreamedAnswer.feed, StreamedAnswer.terminal_frame
    held: dict[int, bytes] = {}

    def feed_one_behind(self: StreamedAnswer, data: bytes, *, at: int, now_ms: int) -> bytes:
        before = held.get(id(self), b"")
        out = feed(self, data, at=at, now_ms=now_ms)
        held[id(self)] = out or before
        return before if out else b""

    def with_the_last_piece(self: StreamedAnswer) -> bytes:
        return held.pop(id(self), b"") + terminal_frame(self)

    StreamedAnswer.feed = feed_one_behind  # type: ignore[method-assign]
    StreamedAnswer.terminal_frame = with_the_last_piece  # type: ignore[method-assign]


if __name__ == "__main__":
    widen()
    if "one-behind" in sys.argv[1:]:
        hold_one_behind()
    sys.exit(main())
