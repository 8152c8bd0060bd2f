"""What holds for every test: none is timed, for a machine that others use is slow, and no fault of ours."""

from __future__ import annotations

import gc
from typing import Final

from hypothesis import HealthCheck, settings

ALLOCATIONS: Final = 50_000  # Between two looks for garbage: Python's 700 cost a tenth of a simulated life.

settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Thousands of collected tests are no garbage, and need not be looked through for it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 20, 20)
