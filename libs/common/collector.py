"""Python's garbage collector, told what a process is like whose load is many small objects."""

from __future__ import annotations

import gc
from typing import Final

# What a request or a batch makes is freed by its counts; cycles are rare and small.
GC_THRESHOLDS: Final = (50_000, 20, 100)


def collect_rarely() -> None:
    """What is being loaded is no garbage: looking for some three hundred times is a tenth of what a start costs."""
    gc.set_threshold(*GC_THRESHOLDS)


async def calm_collector() -> None:
    """What is loaded stays: the garbage collector need not look at it again, nor at those that come and go."""
    gc.collect()
    gc.freeze()
    collect_rarely()
