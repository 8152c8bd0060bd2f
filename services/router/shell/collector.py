"""Python's garbage collector, told what a router is like."""

from __future__ import annotations

import gc
from typing import Final

GC_THRESHOLDS: Final = (50_000, 20, 100)  # A request's objects are freed by their counts; cycles are rare and small.


async def calm_collector() -> None:
    """What is loaded stays: the garbage collector need not look at it again, nor at each request's few objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
