"""What each endpoint has in a cluster that several share: an annotation a share, on the cluster itself.

So the shares and the pool's size, which is their sum, change in one write on one version, whoever writes: no endpoint
can undo another's, and nobody but the cluster knows who is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

PREFIX: Final = "share.millrace.dev/"
WARM: Final = "warm.millrace.dev/nodes"  # Nodes of the pool that no share needs, for whoever comes next.


@dataclass(frozen=True, slots=True)
class Share:
    """Replicas of an endpoint that the cluster is to carry, and the generation of the endpoint that said so."""

    replicas: int
    generation: int


def of(instance: Json) -> Mapping[str, Share]:
    """The shares, by endpoint. One that can't be read counts as one of no replicas: its endpoint is still there."""
    written = instance["metadata"].get("annotations") or {}
    return {key.removeprefix(PREFIX): _read(str(text)) for key, text in written.items() if key.startswith(PREFIX)}


def warm_of(instance: Json) -> int:
    """Nodes of the pool that are for whoever comes next."""
    text = str((instance["metadata"].get("annotations") or {}).get(WARM, ""))
    return int(text) if text.isdigit() else 0


def warmed(nodes: int) -> Json:
    """The merge patch of annotations that sets how many of the pool's nodes are warm."""
    return {WARM: str(nodes) if nodes else None}


def written(shares: Mapping[str, Share]) -> Json:
    """The annotations of these shares."""
    return {f"{PREFIX}{name}": f"{each.replicas} {each.generation}" for name, each in shares.items()}


def change(endpoint_id: str, share: Share | None) -> Json:
    """The merge patch of annotations that sets a share, or takes it away."""
    return {f"{PREFIX}{endpoint_id}": None} if share is None else written({endpoint_id: share})


def _read(text: str) -> Share:
    replicas, _, generation = text.partition(" ")
    return Share(int(replicas) if replicas.isdigit() else 0, int(generation) if generation.isdigit() else 0)
