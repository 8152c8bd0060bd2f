"""What holds for every test: none is timed, for a machine that others use is slow, and no fault of ours."""

from __future__ import annotations

import gc
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

ALLOCATIONS: Final = 50_000  # Between two looks for garbage: Python's 700 cost a tenth of a simulated life.
QUICK: Final = "tests/unit/"

settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


class ByGroupOrFile(LoadGroupScheduling):  # type: ignore[misc]  # Untyped in the package.
    """Tests of a group go to one worker together, and so do the quick ones of a file.

    Each one that is dealt by itself costs the controller milliseconds, and more the more there are.
    """

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return nodeid.partition("::")[0] if scope == nodeid and nodeid.startswith(QUICK) else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroupOrFile:
    """How tests are dealt to the workers: those that come in numbers first, long single ones to fill up with last."""
    return ByGroupOrFile(config, log)


def pytest_collection_finish() -> None:
    """Thousands of collected tests are no garbage, and need not be looked through for it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 20, 20)
