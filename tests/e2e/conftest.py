"""One running profile for the tests that do no harm to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.e2e.local_profile import Profile, running_profile

SERVED: Final = "served"  # For whoever wants to ask something.
BILLED: Final = "billed"  # For the one test that counts all of its requests.
TIME_SCALE: Final = 0.003  # Nobody here looks at single stages; what is left of them is our own time, not the cloud's.


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    """The whole product, shared: tests of the group `profile` run in one worker."""
    with running_profile(tmp_path_factory.mktemp("millrace") / "home", time_scale=TIME_SCALE) as running:
        yield running


@pytest.fixture(scope="session")
def endpoints(profile: Profile) -> dict[str, str]:
    """The ids of two ready endpoints, by their names; made at once, as that takes no longer than one."""
    ids = {name: profile.create(name) for name in (SERVED, BILLED)}
    for each in ids.values():
        profile.wait_for_stage(each, "ready")
    return ids


@pytest.fixture
def served(endpoints: dict[str, str]) -> str:
    """The name of an endpoint that answers."""
    assert SERVED in endpoints
    return SERVED


@pytest.fixture
def billed(endpoints: dict[str, str]) -> str:
    """The id of an endpoint that nobody has asked anything."""
    return endpoints[BILLED]
