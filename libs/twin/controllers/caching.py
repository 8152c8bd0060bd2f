"""What simulated fetches leave on claims and nodes: hits, misses, and evictions by the same policy as the real ones."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from typing import Final

from libs.common.units import GIB
from libs.model_fetch.eviction import MODELS_MAX, Cached, Need, Policy, to_evict
from libs.twin import kinds, pods
from libs.twin.controllers.pod_run import PodRun
from libs.twin.objects import Json, namespace_of, uid_of
from libs.twin.store import Store

DISK_BYTES: Final = 4096 * GIB  # Of a simulated node or claim: what a cache may have is said by its policy.
MODELS: Final = "models"  # The volume's name in a pod.


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A fetch that is on its way: where to, whether the model was there, and when it will be."""

    place: str
    model: Cached
    was_there: bool
    until_ms: int


class Caches:
    """By the uid of the node or claim: what comes anew by an old name is empty."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, Cached]] = {}
        self._fetches: dict[str, _Fetch] = {}
        self._holders: dict[str, tuple[str, str]] = {}

    def hold(self, store: Store, pod: Json, run: PodRun, container: Json) -> None:
        """From now on, and as long as the pod is there, its model is not evicted."""
        place = place_of(store, pod, run)
        digest = pods.option(tuple(container.get("args") or ()), "--digest")
        if place is not None and digest is not None:
            self._holders[run.uid] = (place, digest)

    def begin(
        self, store: Store, pod: Json, run: PodRun, container: Json, *, now_ms: int, download_ms: int, hit_ms: int
    ) -> int | None:
        """A fetch begins: when it ends; None if nothing may make room for its model."""
        args = tuple(str(each) for each in container.get("args") or ())
        place, digest = place_of(store, pod, run), pods.option(args, "--digest")
        if place is None or digest is None:
            return now_ms + download_ms
        there = self._models.setdefault(place, {})
        model = Cached(digest, int(pods.option(args, "--size-bytes") or 0), now_ms)
        same = [each for each in self._fetches.values() if (each.place, each.model.digest) == (place, digest)]
        was_there = digest in there or bool(same)  # Who waits for another to bring it finds it there.
        until_ms = max([now_ms, *(each.until_ms for each in same)]) + hit_ms if was_there else now_ms + download_ms
        if not was_there and not self._make_room(there, place, model, args):
            return None
        self._fetches[run.uid] = _Fetch(place, model, was_there, until_ms)
        return until_ms

    def _make_room(self, there: dict[str, Cached], place: str, model: Cached, args: tuple[str, ...]) -> bool:
        capacity_bytes = int(pods.option(args, "--capacity-bytes") or 0)
        if not capacity_bytes:
            return True
        keep = frozenset(value for name, value in itertools.pairwise(args) if name == "--keep")
        coming = {each.model.digest: each.model for each in self._fetches.values() if each.place == place}
        others = [
            replace(each, is_in_use=each.digest in coming or (place, each.digest) in self._holders.values())
            for each in {**there, **coming}.values()
        ]
        need = Need(model.size_bytes, model.size_bytes, DISK_BYTES)
        going = to_evict(others, need, Policy(capacity_bytes, keep))
        for each in going or ():
            del there[each.digest]
        return going is not None

    def end(self, run: PodRun, now_ms: int) -> str:
        """A fetch ended well: its last line, as the real one writes it; empty where there is no cache."""
        fetch = self._fetches.pop(run.uid, None)
        if fetch is None:
            return ""
        there = self._models.setdefault(fetch.place, {})
        at_ms = max(now_ms, 1 + max((each.used_ms for each in there.values()), default=0))
        there[fetch.model.digest] = replace(fetch.model, used_ms=at_ms)
        recent = sorted(there.values(), key=lambda each: -each.used_ms)[:MODELS_MAX]
        size_bytes = fetch.model.size_bytes
        return json.dumps(
            {
                "state": "done",
                "cache": "hit" if fetch.was_there else "miss",
                "bytes_done": size_bytes,
                "bytes_total": size_bytes,
                "bytes_fetched": 0 if fetch.was_there else size_bytes,
                "digest": fetch.model.digest,
                "at_ms": at_ms,
                "models": {each.digest: each.size_bytes for each in recent},
                "left_out": len(there) - len(recent),
            }
        )

    def contents(self) -> dict[str, dict[str, int]]:
        """What is in each, by the uid of its node or claim: bytes by digest."""
        return {
            place.split("/")[1]: {each.digest: each.size_bytes for each in there.values()}
            for place, there in self._models.items()
        }

    def forget(self, run: PodRun) -> None:
        """The pod is gone."""
        self._fetches.pop(run.uid, None)
        self._holders.pop(run.uid, None)


def place_of(store: Store, pod: Json, run: PodRun) -> str | None:
    """What the volume with a pod's models is called here, if it outlives the pod; None if it does not."""
    volume: Json = next((each for each in pod["spec"].get("volumes") or () if each["name"] == MODELS), {})
    claim: str | None = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    if claim:
        found = store.find(kinds.VOLUME_CLAIMS, namespace_of(pod), claim)
        return f"claims/{uid_of(found)}" if found is not None else None
    path: str | None = (volume.get("hostPath") or {}).get("path")
    return node_place(store, run, path) if path else None


def node_place(store: Store, run: PodRun, path: str) -> str | None:
    """What a directory of a pod's node is called here."""
    node = store.find(kinds.NODES, "", run.node)
    return f"nodes/{uid_of(node)}{path}" if node is not None else None
