"""Many threads at one thing, let go at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from libs.common.errors import Stale, Unavailable

T = TypeVar("T")

ATTEMPTS_MAX: Final = 200


def together(count: int, work: Callable[[int], T]) -> list[T]:
    """What ``work(0)`` … ``work(count - 1)`` return, each in a thread of its own. Raises the first error."""
    gate = threading.Barrier(count, timeout=120)

    def wait_and_work(index: int) -> T:
        gate.wait()
        return work(index)

    with ThreadPoolExecutor(count) as threads:
        return [each.result(timeout=240) for each in [threads.submit(wait_and_work, index) for index in range(count)]]


def persistently(work: Callable[[], T]) -> T:
    """Do ``work`` again while it says Stale or Unavailable, as every caller of a store does."""
    for _ in range(ATTEMPTS_MAX):
        try:
            return work()
        except (Stale, Unavailable):
            continue
    raise AssertionError(f"no luck in {ATTEMPTS_MAX} attempts")
