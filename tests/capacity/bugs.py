"""Bugs that are planted to show that the checkers see: each is one that leaked somebody's machines, or a bill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import Any, Final

from libs.common.decision import Decision, Give
from libs.common.events.capacity import CapacityReleased, NodeJoined, NodeLost, NodeReleased, NodeUse, NodeUsed
from libs.common.events.envelope import Envelope
from libs.common.service import Service
from libs.common.units import MINUTE_MS
from libs.twin import kinds
from services.capacity_manager.core.observed import NodeSeen, Observed
from services.capacity_manager.core.orphans import Found
from services.capacity_manager.core.pools import POOL, Pool, SharesStray
from services.capacity_manager.core.state import CLAIM, NOTHING_HEARD, Claim
from services.capacity_manager.core.witness import give_rest
from tests.capacity.run import Run, Spoil

Decide = Callable[[Claim, Envelope, int], Decision[Claim]]


def _deciding(spoil: Callable[[Any], Any], kind: str = CLAIM) -> Spoil:
    def spoiled(service: Service) -> Service:
        runner = service.runner(kind)
        runner.owned = replace(runner.owned, decide=spoil(runner.owned.decide))
        return service

    return spoiled


def _one_look_is_proof(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        """The first look that finds nothing is believed at once, as if a second had confirmed it."""
        first = decide(claim, envelope, now_ms)
        if not isinstance(envelope.data, Observed) or first.state.gone is None:
            return first
        long_ago = replace(first.state.gone, since_ms=0, look=0)
        nodes = tuple(
            replace(node, missing=replace(node.missing, since_ms=0, look=0)) if node.missing else node
            for node in first.state.nodes
        )
        again = decide(replace(first.state, gone=long_ago, nodes=nodes), envelope, now_ms)
        return replace(again, events=(*first.events, *again.events), counters=(*first.counters, *again.counters))

    return decided


def _once_gone_is_gone(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        """A machine that a second look shows again counts as gone all the same."""
        seen = envelope.data
        if isinstance(seen, Observed):
            missing = {node.name for node in claim.nodes if node.missing is not None}
            left = tuple(node for node in seen.nodes if node.name not in missing)
            envelope = replace(envelope, data=seen.model_copy(update={"nodes": left}))
        return decide(claim, envelope, now_ms)

    return decided


def _accepted_is_gone(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        """Released as soon as the delete is on its way."""
        found = decide(claim, envelope, now_ms)
        if claim.is_removable or not found.state.is_removable or found.state.reservation is None:
            return found
        return replace(found, events=(*found.events, CapacityReleased()))

    return decided


def _quota_is_kept(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        found = decide(claim, envelope, now_ms)
        return replace(found, counters=tuple(each for each in found.counters if not isinstance(each, Give)))

    return decided


def _quota_is_given_early(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        """What is asked to go counts as gone."""
        found = decide(claim, envelope, now_ms)
        if claim.is_unwanted or not found.state.is_unwanted or found.state.reservation is None:
            return found
        return replace(found, counters=(*found.counters, *give_rest(found.state)))

    return decided


def _time_runs_on(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        found = decide(claim, envelope, now_ms)
        return replace(found, events=tuple(_later(each) for each in found.events))

    return decided


def _later(event: Any) -> Any:  # Any event, most of them as they are.
    return event.model_copy(update={"at_ms": event.at_ms + 3 * MINUTE_MS}) if isinstance(event, NodeReleased) else event


def _whatever_stands_is_nobodys(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        if isinstance(envelope.data, Found):
            claim = replace(claim, tenant_id=type(claim.tenant_id)(""), facts=NOTHING_HEARD)
        return decide(claim, envelope, now_ms)

    return decided


def _a_look_is_a_death(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        """Every node that is seen counts as lost."""
        found = decide(claim, envelope, now_ms)
        if not isinstance(envelope.data, Observed) or found.state.is_unwanted:
            return found
        nodes = tuple(replace(each, lost_at_ms=each.joined_at_ms) for each in found.state.nodes)
        return replace(found, state=replace(found.state, nodes=nodes))

    return decided


def _a_replacement_is_forgotten(decide: Decide) -> Decide:
    def decided(claim: Claim, envelope: Envelope, now_ms: int) -> Decision[Claim]:
        found = decide(claim, envelope, now_ms)
        return replace(found, state=replace(found.state, replacements=()))

    return decided


def _pool_is_silent(decide: Any) -> Any:
    def decided(pool: Pool, envelope: Envelope, now_ms: int) -> Decision[Pool]:
        found = decide(pool, envelope, now_ms)
        told = tuple(
            each for each in found.events if not isinstance(each, NodeJoined | NodeReleased | NodeUsed | NodeLost)
        )
        return replace(found, events=told)

    return decided


def _warm_serves(decide: Any) -> Any:
    def decided(thing: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        """Nodes that stand warm are booked to whoever is there."""
        found = decide(thing, envelope, now_ms)
        nodes = tuple(replace(each, use=NodeUse.SERVING) if each.use else each for each in found.state.nodes)
        told = tuple(each for each in found.events if not isinstance(each, NodeUsed))
        return replace(found, state=replace(found.state, nodes=nodes), events=told)

    return decided


def _a_theft_is_not_noticed(decide: Any) -> Any:
    def decided(pool: Pool, envelope: Envelope, now_ms: int) -> Decision[Pool]:
        """What stands now is all that it ever knew of."""
        found: Decision[Pool] = decide(replace(pool, uid=""), envelope, now_ms)
        return found

    return decided


def _what_was_taken_is_held_on(decide: Any) -> Any:
    def decided(pool: Pool, envelope: Envelope, now_ms: int) -> Decision[Pool]:
        """The time of nodes that went with a cluster that somebody else deleted never ends."""
        found = decide(pool, envelope, now_ms)
        lost = {each.claim for each in found.events if isinstance(each, NodeLost)}
        told = tuple(each for each in found.events if not (isinstance(each, NodeReleased) and each.claim in lost))
        return replace(found, events=told)

    return decided


def _pool_never_ends(decide: Any) -> Any:
    def decided(pool: Pool, envelope: Envelope, now_ms: int) -> Decision[Pool]:
        found = decide(pool, envelope, now_ms)
        return replace(found, state=replace(found.state, idle_since_ms=None))

    return decided


def _every_share_is_nobodys(service: Service) -> Service:
    collector, pools = _collector(service), service.runner(POOL)
    survey = collector._sight.survey

    def surveyed() -> Any:
        seen = survey()
        for each in seen.pools:
            if each.sharers and pools.state(each.id) is not None:
                collector._take(pools, each.id, SharesStray(endpoint_ids=each.sharers[:1]), each.sharers[0])
        return seen

    collector._sight = SimpleNamespace(
        survey=surveyed, found=collector._sight.found, pool_found=collector._sight.pool_found
    )
    return service


def _greedy(service: Service) -> Service:
    """The collector forgets to ask who follows what, and the decision to doubt it."""
    _collector(service)._followed = lambda: frozenset()
    return _deciding(_whatever_stands_is_nobodys)(service)


def _anybodys(service: Service) -> Service:
    collector = _collector(service)
    collector._caution = replace(collector._caution, installation="another")
    return service


def _never_looks_around(service: Service) -> Service:
    reconciler = service.reconcilers[0]
    reconciler._survey = None
    return service


def _collector(service: Service) -> Any:  # A bug reaches where nobody else may.
    reconciler = service.reconcilers[0]
    return reconciler._survey.__self__  # type: ignore[union-attr]


class _SeesAllNodes:
    """An adapter that forgets to tell the clusters of a project apart."""

    def __init__(self, run: Run, world: Any) -> None:
        self._run = run
        self._world = world

    def observe(self, claim: Claim) -> Observed:
        seen: Observed = self._world.observe(claim)
        namespace = f"p-mr-{claim.tenant_id}-{claim.project_id}"
        nodes = [
            NodeSeen(
                name=each["metadata"]["name"],
                phase="Available",
                message="",
                is_scheduled=True,
                is_joined=True,
                joined_at_ms=None,
            )
            for each in self._run.world.store.all(kinds.NODE_CLAIMS, namespace)
        ]
        return seen.model_copy(update={"nodes": tuple(nodes)}) if seen.nodes else seen

    def apply(self, action: Any) -> None:
        self._world.apply(action)


def sees_all_nodes(run: Run) -> Spoil:
    """Planted with the run in hand."""

    def spoiled(service: Service) -> Service:
        reconciler = service.reconcilers[0]
        reconciler._world = _SeesAllNodes(run, reconciler._world)
        return service

    return spoiled


once_gone_is_gone: Final = _deciding(_once_gone_is_gone)

BUGS: Final[Mapping[str, tuple[Spoil, str]]] = MappingProxyType(
    {
        "one look is proof": (_deciding(_one_look_is_proof), "held time ends with the machine|given back that stands"),
        "an accepted delete is proof": (_deciding(_accepted_is_gone), "given back that stands"),
        "quota is never given back": (_deciding(_quota_is_kept), "quota is what is reserved"),
        "quota is given back when asked": (_deciding(_quota_is_given_early), "quota is what is reserved"),
        "time runs on": (_deciding(_time_runs_on), "held time ends with the machine"),
        "the collector takes what is wanted": (_greedy, "no wanted node is removed"),
        "the collector takes another owner's": (_anybodys, "another owner's"),
        "a pool does not tell of its nodes": (_deciding(_pool_is_silent, POOL), "held time is told"),
        "a theft is not noticed": (_deciding(_a_theft_is_not_noticed, POOL), "a theft is told"),
        "what was taken is held on": (
            _deciding(_what_was_taken_is_held_on, POOL),
            "is not booked once|held time is told",
        ),
        "a pool never ends": (_deciding(_pool_never_ends, POOL), "no GPU is held without an owner"),
        "a share is dropped that is wanted": (_every_share_is_nobodys, "no wanted node is removed"),
        "a node that works is retired": (_deciding(_a_look_is_a_death), "no wanted node is removed"),
        "a replacement is forgotten": (_deciding(_a_replacement_is_forgotten), "every replacement ends once"),
        "nobody looks for orphans": (_never_looks_around, "no GPU is held without an owner"),
    }
)

AT_PEACE: Final[Mapping[str, tuple[Spoil, str]]] = MappingProxyType(
    {
        "an endpoint's warm nodes are said to serve": (_deciding(_warm_serves), "what stands warm is told"),
        "a pool's warm nodes are said to serve": (_deciding(_warm_serves, POOL), "what stands warm is told"),
    }
)
"""Bugs that trouble hides, and that a run without any must show."""
