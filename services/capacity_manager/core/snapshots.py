"""Snapshots of a tenant cluster, and what it means to go back to one: never to another owner's, never unasked.

A snapshot has the cluster's etcd and its configuration: no volumes, and no nodes. What runs is made anew by whoever
wants it: this claim its nodes, runtime-deployer its objects; both look at what is there, and at nothing they remember.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.errors import NotFound, Rejected
from services.capacity_manager.core.observed import ClusterSeen
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import is_shared

COMPLETED: Final = "Completed"
PROGRAM: Final = "vcluster"  # The Platform documents no call for this, only its own program.


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot, as the Platform tells of it."""

    id: str
    url: str
    at: str
    status: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The cluster that would be overwritten: what is in it now, and where its control plane runs."""

    name: str
    host: str
    host_namespace: str
    objects: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Restore:
    """What would be done, and what becomes of what is there."""

    snapshot: Snapshot
    command: tuple[str, ...]
    overwrites: tuple[str, ...]


def restore_of(
    claim: Claim, cluster: ClusterSeen | None, standing: Standing, taken: Sequence[Snapshot], snapshot_id: str
) -> Restore:
    """The way back to a snapshot. Raises Rejected if it is another cluster's, or not whole, or the cluster not ours."""
    if cluster is None or not cluster.is_ours:
        raise Rejected(f"{standing.name} is not a cluster of ours; it was left alone")
    if is_shared(claim.placement) or claim.is_unwanted:
        raise Rejected(f"{claim.id} has no cluster of its own that is wanted")
    found = next((each for each in taken if each.id == snapshot_id), None)
    if found is None:
        raise NotFound(f"{standing.name} has no snapshot {snapshot_id}; see `millrace snapshots list {claim.id}`")
    if f"/{standing.name}/" not in found.url:
        raise Rejected(f"snapshot {snapshot_id} is of another cluster ({found.url}); it was left alone")
    if found.status != COMPLETED:
        raise Rejected(f"snapshot {snapshot_id} is {found.status}, not {COMPLETED}; take another one")
    return Restore(
        snapshot=found,
        command=(PROGRAM, "restore", standing.name, found.url, "--namespace", standing.host_namespace),
        overwrites=(
            f"the whole state of {standing.name} on {standing.host}, back to {found.at}",
            *(f"{count} {kind} that are in it now" for kind, count in standing.objects),
            "not its volumes; and its nodes have to join again, which this claim sees to",
        ),
    )
