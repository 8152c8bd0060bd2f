"""Ending background tasks for certain: one cancel is not always enough."""

from __future__ import annotations

import asyncio
from typing import Final

ASK_AGAIN_S: Final = 0.5


async def end(*tasks: asyncio.Future[None]) -> None:
    """Cancel the tasks, and return once every one of them has ended; raises what the first of them failed with.

    A cancel that meets an answer is lost in Python 3.11 (``wait_for`` returns the answer, cpython 37658), and nats-py
    turns one into an error that its caller takes for an outage. A loop that goes on after that is asked again.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=ASK_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.result()
