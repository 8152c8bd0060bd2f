"""What the simulated Platform itself saw: which machine was held from when to when, and what was taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import yaml

from libs.twin import kinds
from libs.twin.objects import Json, is_terminating, is_true, labels_of, name_of, namespace_of
from libs.twin.platform_rules import PREFIX
from libs.twin.store import Change
from libs.twin.world import World
from services.capacity_manager.core.tenancy import pool_id
from services.capacity_manager.shell.platform.shares import Share
from services.capacity_manager.shell.platform.shares import of as shares_of

ENDPOINT = "millrace.dev/endpoint"


@dataclass(frozen=True, slots=True)
class Machine:
    """A node of a tenant cluster, of an endpoint or of a pool; times are None for what did not happen yet."""

    name: str
    endpoint: str
    node_type: str
    joined_ms: int | None = None
    gone_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """A cluster was deleted (`left` is 0) or its pool made smaller; of a shared one, an endpoint's share."""

    at_ms: int
    endpoint: str
    cluster: str
    left: int


@dataclass
class Truth:
    """A listener to the twin's own store."""

    world: World
    machines: dict[str, Machine] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)

    def __post_init__(self) -> None:
        tell = self.world.store.on_change

        def note(change: Change) -> None:
            tell(change)
            self._note(change)

        self.world.store.on_change = note

    def _note(self, change: Change) -> None:
        if change.kind is kinds.NODE_CLAIMS:
            self._note_machine(change)
        if change.kind is kinds.INSTANCES and change.old is not None and change.verb == "MODIFIED":
            self._note_cut(change)
            self._note_lost_shares(change, shares_of(change.old))

    def _note_lost_shares(self, change: Change, old: Mapping[str, Share]) -> None:
        """Of a shared cluster an endpoint has what its share says; all of it goes with the cluster."""
        cluster = f"{namespace_of(change.new).removeprefix(PREFIX)}/{name_of(change.new)}"
        left = {} if is_terminating(change.new) else shares_of(change.new)
        if is_terminating(change.new) and change.old is not None and is_terminating(change.old):
            return
        for endpoint, share in old.items():
            now = left[endpoint].replicas if endpoint in left else 0
            if now < share.replicas:
                self.cuts.append(Cut(self.world.now_ms, endpoint, cluster, now))

    def _note_machine(self, change: Change) -> None:
        claim, name = change.new, name_of(change.new)
        known = self.machines.get(name) or Machine(name, _subject(claim), "")
        known = replace(known, node_type=claim["spec"].get("typeRef") or known.node_type)
        if known.joined_ms is None and is_true(claim, "Joined"):
            known = replace(known, joined_ms=self.world.now_ms)
        if change.verb == "DELETED":
            known = replace(known, gone_ms=self.world.now_ms)
        self.machines[name] = known

    def _note_cut(self, change: Change) -> None:
        assert change.old is not None
        endpoint = labels_of(change.new).get(ENDPOINT, "")
        cluster = f"{namespace_of(change.new).removeprefix(PREFIX)}/{name_of(change.new)}"
        was, is_now = quantity_of(change.old), quantity_of(change.new)
        if is_terminating(change.new) and not is_terminating(change.old):
            self.cuts.append(Cut(self.world.now_ms, endpoint, cluster, 0))
        elif is_now < was:
            self.cuts.append(Cut(self.world.now_ms, endpoint, cluster, is_now))


def _subject(claim: Json) -> str:
    """Of whom node time is told: the endpoint, or the cluster that several share."""
    endpoint = labels_of(claim).get(ENDPOINT)
    return endpoint or pool_id(
        project=namespace_of(claim).removeprefix(PREFIX), cluster=str(claim["spec"].get("vClusterRef"))
    )


def quantity_of(instance: Json) -> int:
    """The size of its static pool."""
    return _sized(instance["spec"].get("parameters") or "")


@lru_cache(maxsize=1024)
def _sized(parameters: str) -> int:
    return int((yaml.safe_load(parameters) or {}).get("gpuQuantity", 0))
