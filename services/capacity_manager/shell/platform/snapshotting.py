"""Snapshots of tenant clusters as the Platform tells of them, and what stands that one would overwrite."""

from __future__ import annotations

from typing import Any, Final

from libs.common.errors import NotFound
from services.capacity_manager.core.observed import ClusterSeen
from services.capacity_manager.core.snapshots import Snapshot, Standing
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import home_of
from services.capacity_manager.shell.platform.adapter import MANAGEMENT, Platform
from services.capacity_manager.shell.platform.client import PlatformClient

Json = dict[str, Any]

# What is counted of a cluster before it is overwritten.
KINDS: Final = (("deployments", "apis/apps/v1/deployments"), ("pods", "api/v1/pods"), ("secrets", "api/v1/secrets"))


class Snapshots:
    """What an operator asks before a restore."""

    def __init__(self, client: PlatformClient, platform: Platform) -> None:
        self._client = client
        self._platform = platform

    def cluster(self, claim: Claim) -> ClusterSeen | None:
        """The claim's cluster; None if there is none. Raises Unavailable."""
        return self._platform.observe(claim).cluster

    def taken(self, claim: Claim) -> tuple[Snapshot, ...]:
        """Those of the claim's cluster. Raises Unavailable. A Go server writes none as null."""
        home = home_of(claim)
        status = self._client.read(f"{self._path(claim)}/{home.cluster}/snapshot").get("status") or {}
        return tuple(
            Snapshot(
                id=str(each.get("id") or ""),
                url=str(each.get("url") or ""),
                at=str(each.get("timestamp") or ""),
                status=str(each.get("status") or ""),
            )
            for each in status.get("snapshotTaken") or ()
        )

    def standing(self, claim: Claim) -> Standing:
        """What is in the claim's cluster now. Raises Unavailable, NotFound."""
        home = home_of(claim)
        found = self._client.get(self._path(claim), home.cluster)
        if found is None:
            raise NotFound(f"{home.cluster} is not on the Platform")
        placed = (found.get("spec") or {}).get("clusterRef") or {}
        inside = f"/kubernetes/project/{home.project}/virtualcluster/{home.cluster}"
        return Standing(
            name=home.cluster,
            host=str(placed.get("cluster") or ""),
            host_namespace=str(placed.get("namespace") or ""),
            objects=tuple((kind, len(self._client.list(f"{inside}/{path}"))) for kind, path in KINDS),
        )

    def _path(self, claim: Claim) -> str:
        namespace = self._platform.namespace_prefix() + home_of(claim).project
        return f"{MANAGEMENT}/namespaces/{namespace}/virtualclusterinstances"
