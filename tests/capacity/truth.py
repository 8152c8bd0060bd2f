"""What the simulated Platform itself saw: which machine was held from when to when, and what was taken away."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import yaml

from libs.twin import kinds
from libs.twin.objects import is_terminating, is_true, labels_of, name_of, namespace_of
from libs.twin.platform_rules import PREFIX
from libs.twin.store import Change
from libs.twin.world import World

ENDPOINT = "millrace.dev/endpoint"


@dataclass(frozen=True, slots=True)
class Machine:
    """A node of a tenant cluster; times are None for what did not happen yet."""

    name: str
    endpoint: str
    node_type: str
    joined_ms: int | None = None
    gone_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """A cluster was deleted (`left` is 0) or its pool made smaller."""

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

    def _note_machine(self, change: Change) -> None:
        claim, name = change.new, name_of(change.new)
        known = self.machines.get(name) or Machine(name, labels_of(claim).get(ENDPOINT, ""), "")
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
        was, is_now = _quantity(change.old["spec"]), _quantity(change.new["spec"])
        if is_terminating(change.new) and not is_terminating(change.old):
            self.cuts.append(Cut(self.world.now_ms, endpoint, cluster, 0))
        elif is_now < was:
            self.cuts.append(Cut(self.world.now_ms, endpoint, cluster, is_now))


def _quantity(spec: dict[str, str]) -> int:
    return _sized(spec.get("parameters") or "")


@lru_cache(maxsize=1024)
def _sized(parameters: str) -> int:
    return int((yaml.safe_load(parameters) or {}).get("gpuQuantity", 0))
