"""Kubernetes' promises, kept by a real API server: what the twin is held to, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.shell.connections import Connections
from tests.contract.kube_promises import Api, KubePromises, opened
from tests.integration.kube.running import Kube, http_client

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube")]


class TestRealKubernetes(KubePromises):
    @pytest.fixture(scope="class")
    @classmethod
    def api(cls, kube: Kube) -> Iterator[Api]:
        connections = Connections("", lambda: "", kubeconfig=kube.kubeconfig)
        with http_client(kube.kubeconfig) as http:
            yield from opened(Api(connections, Cluster("any", "any"), "kube-promises", http))
