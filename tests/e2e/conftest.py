"""One running profile for the tests that do no harm to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.local_profile import Profile, running_profile


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    """The whole product, shared: tests of the group `profile` run in one worker."""
    with running_profile(tmp_path_factory.mktemp("millrace") / "home") as running:
        yield running
