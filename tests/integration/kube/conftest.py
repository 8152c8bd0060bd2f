"""One Kubernetes for all tests that need a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.kube.running import Kube, running


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    """A Kubernetes with two nodes of eight GPUs."""
    with running(tmp_path_factory.mktemp("kube")) as found:
        yield found
