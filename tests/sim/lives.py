"""What must hold over pauses, repairs and changes: nothing is held for nothing, the newest runs, time is paid once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from libs.common.events.capacity import NodeJoined, NodeReleased
from libs.common.events.endpoint import EndpointRequested, Stage
from libs.common.events.event import Owner
from libs.common.events.usage import Meter
from libs.twin import kinds
from libs.twin.objects import name_of
from services.endpoint_api.core.state import Endpoint, home_of
from services.metering.core.accounts import Account
from services.runtime_deployer.core.manifests import GENERATION, MODEL
from services.runtime_deployer.shell.pods import number
from tests.sim.hosts import RouterHost
from tests.sim.looks import Checker, Told, claims, clusters

if TYPE_CHECKING:
    from tests.sim.world import Simulation

PAUSED_IS_EMPTY: Final = "what is paused holds nothing but its name"
NEWEST_RUNS: Final = "at rest runs what was asked for last"
NOTHING_OLDER: Final = "nothing of an older generation is applied"
TIME_IS_PAID: Final = "GPU time in the ledger is the time that nodes were held"


def checkers(told: Told) -> Sequence[Checker]:
    """Fresh checkers for one run."""
    applied = _Applied(told)
    return (
        Checker(NOTHING_OLDER, applied.look, applied.look),
        Checker(PAUSED_IS_EMPTY, paused_is_empty, paused_says_so),
        Checker(NEWEST_RUNS, _nothing, newest_runs),
        Checker(TIME_IS_PAID, _nothing, partial(time_is_paid, told)),
    )


class _Applied:
    """Follows what is applied in every tenant cluster."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._looked: dict[object, int] = {}  # By cluster: the version of it that was looked at.
        self._newest: dict[str, int] = {}

    def look(self, simulation: Simulation) -> str:
        """A Deployment's generation never falls, and its content is what was asked for with that generation."""
        for place, tenant in simulation.twin.tenants.items():
            if tenant.cluster is None or self._looked.get(place) == tenant.cluster.store.version:
                continue
            self._looked[place] = tenant.cluster.store.version
            for each in tenant.cluster.store.all(kinds.DEPLOYMENTS):
                if broken := self._broken(each):
                    return f"{name_of(each)}: {broken}"
        return ""

    def _broken(self, deployment: Any) -> str:
        generation = number(deployment["metadata"]["annotations"][GENERATION])
        newest = self._newest.get(name_of(deployment), 0)
        if generation < newest:
            return f"generation {generation} was applied over {newest}"
        self._newest[name_of(deployment)] = generation
        if generation == newest:
            return ""
        self._told.catch_up()
        asked = [
            each.data.spec.model
            for each in self._told.events
            if isinstance(each.data, EndpointRequested)
            and (each.subject, each.generation) == (name_of(deployment), generation)
        ]
        served = deployment["spec"]["template"]["metadata"]["annotations"][MODEL]
        runs = str(served).removesuffix(f"@{name_of(deployment)}")  # Engines that answer to an endpoint's own name.
        return "" if runs in asked else f"runs {runs} for generation {generation}, which asked for {asked}"


def paused_is_empty(simulation: Simulation) -> str:
    """As soon as it is called paused: no cluster, no node, no quota, nobody is let in; and its name is its own."""
    paused = [each for each in simulation.customers.endpoints() if each.stage is Stage.PAUSED]
    if not paused:
        return ""
    held = clusters(simulation) | claims(simulation).keys()
    store = simulation.hosts[Owner.ENDPOINT_API].store
    capacity = simulation.hosts[Owner.CAPACITY_MANAGER]
    for each in paused:
        if each.id in held:
            return f"{each.id} is paused, but the cloud still holds it"
        route = _router(simulation).table.held(each.id)
        # The router may not have heard of the pause that followed a resume at once; nothing runs that it could reach.
        if route is not None and route.replicas and not route.paused:
            return f"{each.id} is paused, but has a route"
        claim: Any = capacity.runner("claim").state(each.id)
        if claim is not None and claim.is_unwanted and claim.reservation is not None:
            return f"{each.id} is paused, but has quota for {claim.reservation.gpus} GPUs"
        record = store.find("endpoint", scope=home_of(each.tenant_id, each.project_id), label=each.name)
        if record is None or record.key != each.id:
            return f"{each.id} is paused, and {each.name} is no longer its name"
    return ""


def paused_says_so(simulation: Simulation) -> str:
    """At rest routers tell whoever asks for it that it is paused."""
    for each in simulation.customers.endpoints():
        route = _router(simulation).table.held(each.id)
        if each.stage is Stage.PAUSED and route is not None and not route.paused:
            return f"{each.id} is paused, and its route does not say so"
    return paused_is_empty(simulation)


def newest_runs(simulation: Simulation) -> str:
    """The model is that of the newest spec in every pod and in the route; so are limits and the number of replicas."""
    for endpoint in simulation.customers.endpoints():
        if endpoint.stage is not Stage.READY or endpoint.spec is None:
            continue
        route = _router(simulation).table.held(endpoint.id)
        if route is None or (route.model, route.limits) != (endpoint.spec.model, endpoint.spec.limits):
            return f"{endpoint.id} should be {endpoint.spec}, its route is {route}"
        models = [_model_of(each, endpoint) for each in _deployments(simulation, endpoint)]
        if models != [True]:
            return f"{endpoint.id} should run {endpoint.spec.model} once; its deployments: {models}"
        scaling, replicas = endpoint.spec.scaling, len(route.replicas)
        if not scaling.min <= replicas <= scaling.max:
            return f"{endpoint.id} has {replicas} replicas in its route, not {scaling.min} to {scaling.max}"
        adapters = tuple(each.name for each in endpoint.spec.adapters)
        if {each.adapters for each in route.replicas} != {adapters} or route.adapters != adapters:
            return f"{endpoint.id} should offer {adapters}, its route has {[each.adapters for each in route.replicas]}"
    return ""


def time_is_paid(told: Told, simulation: Simulation) -> str:
    """Once all is over: by endpoint, what was told of nodes and the sum of all accounts are the same."""
    if not simulation.is_over:
        return ""
    told.catch_up()
    ledger: Counter[tuple[str, str]] = Counter()
    for each in simulation.hosts[Owner.METERING].store.ledger.values():
        if each.meter in (Meter.GPU_MS, Meter.NODE_MS):
            *root, account = each.account.split("/")
            if account not in {*Account}:
                return f"{each.id} is in {each.account}, which is no account of held time"
            ledger[root[2], each.meter] += each.quantity
    held = Counter[tuple[str, str]]()
    for endpoint, gpus, time_ms in _held(told):
        held[endpoint, Meter.GPU_MS] += gpus * time_ms
        held[endpoint, Meter.NODE_MS] += time_ms
    return "" if _nonzero(ledger) == _nonzero(held) else f"held were {dict(held)}, booked are {dict(ledger)}"


def _nonzero(sums: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {place: quantity for place, quantity in sums.items() if quantity}


def _held(told: Told) -> Iterator[tuple[str, int, int]]:
    """Endpoint, GPUs and milliseconds of each time that a node was held."""
    joined: dict[tuple[str, str], tuple[int, int]] = {}
    nodes = {each.id: each for each in told.events if isinstance(each.data, NodeJoined | NodeReleased)}
    for each in sorted(nodes.values(), key=lambda envelope: (envelope.subject, envelope.sequence)):
        match each.data:
            case NodeJoined() as node:
                joined[each.subject, node.claim] = (node.at_ms, node.gpu_count)
            case NodeReleased() as node:
                since_ms, gpus = joined.pop((each.subject, node.claim))
                yield each.subject, gpus, node.at_ms - since_ms
    assert not joined, f"at the end nodes are still held: {joined}"


def _deployments(simulation: Simulation, endpoint: Endpoint) -> list[Any]:
    """All that run in a cluster of its own; in one that is shared, those that are called like it."""
    found: list[Any] = []
    for (_project, name), tenant in simulation.twin.tenants.items():
        if tenant.cluster is not None:
            there = tenant.cluster.store.all(kinds.DEPLOYMENTS)
            found += there if name == endpoint.id else [each for each in there if name_of(each) == endpoint.id]
    return found


def _model_of(deployment: Any, endpoint: Endpoint) -> bool:
    assert endpoint.spec is not None
    model = endpoint.spec.model
    containers = deployment["spec"]["template"]["spec"]["containers"]
    words = [word for each in containers for word in (*each.get("command", ()), *each.get("args", ()))]
    return any(word == model or word.endswith(f"={model}") for word in words)


def _router(simulation: Simulation) -> RouterHost:
    router = simulation.hosts[Owner.ROUTER]
    assert isinstance(router, RouterHost)
    return router


def _nothing(_simulation: Simulation) -> str:
    return ""
