"""What must hold of capacity, all the time or at rest; each says what is broken, or nothing."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Final

from libs.common.events.capacity import CapacityDrifted, CapacityReleased, NodeReplaced, NodeReplacementRequested
from libs.common.events.envelope import Envelope, type_of
from libs.common.units import SECOND_MS
from libs.twin import kinds
from libs.twin.objects import is_terminating, is_true, labels_of, name_of, namespace_of
from libs.twin.platform_rules import PREFIX
from services.capacity_manager.core.lifecycle import live_nodes
from services.capacity_manager.core.names import gpu_counter
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.node_use import warm_among
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.pools import PoolSeen
from services.capacity_manager.core.state import Node
from services.capacity_manager.core.tenancy import is_pool_id, pool_id
from services.capacity_manager.shell.platform.shares import of as shares_of
from services.capacity_manager.shell.platform.shares import warm_of
from services.metering.core.accounts import Account
from tests.capacity import accounts
from tests.capacity.run import Run
from tests.capacity.truth import ENDPOINT, quantity_of

EVERY_STEPS: Final = 8  # Whole states are compared this often; each step would cost more than the run itself.
SECOND_OF_THE_API_MS: Final = 1 * SECOND_MS  # The Platform's times have whole seconds.
LOOKS: Final = (type_of(Observed), type_of(PoolSeen))
SEEN_MS_MAX: Final = 12 * SECOND_MS  # Without trouble: two passes over what is at rest, and a step.
NOTICED_MS_MAX: Final = 90 * SECOND_MS  # The longest backoff after an outage, and the next look.


class Broken(AssertionError):
    """A promise does not hold."""


class Checker:
    """Sees each step of a run."""

    def __init__(self) -> None:
        self._steps = 0
        self._cuts = 0
        self._told = 0
        self._still: dict[str, tuple[object, int]] = {}
        self._retired = 0

    def __call__(self, run: Run) -> None:
        """Raise Broken at the first step after which a promise does not hold."""
        self._steps += 1
        cuts, self._cuts = run.truth.cuts[self._cuts :], len(run.truth.cuts)
        for cut in cuts:
            life = run.lives.get(cut.endpoint)
            if run.ageing.was_theft(cut.cluster, cut.at_ms):
                continue
            if cut.cluster in run.others:
                raise Broken(f"no wanted node is removed: {cut} was another owner's")
            if life is not None and cut.left < life.needed:
                raise Broken(f"no wanted node is removed: {cut}, but {life.needed} are needed")
        retired, self._retired = run.ageing.retired[self._retired :], len(run.ageing.retired)
        for node in retired:
            if node not in run.ageing.ordered and not is_silent(run, node):
                raise Broken(f"no wanted node is removed: {node} works, and nobody asked for another one")
        told, self._told = run.told[self._told :], len(run.told)
        for each in told:
            if isinstance(each.data, CapacityReleased) and run.stands(each.subject):
                raise Broken(f"nothing is told to be given back that stands: {each.subject}")
        if self._steps % EVERY_STEPS == 0:
            _insist(held_once(run))
            _insist(quota(run))
            _insist(room(run))
            _insist(self._warm(run))

    def _warm(self, run: Run) -> Iterator[str]:
        """Where nothing changed for long, as many nodes are told to stand warm as are beyond what is needed.

        Lives are short beside the longest backoff, so it is a run without trouble that this says much of.
        """
        now_ms = run.clock.now_ms()
        refused_ms = run.refusing_ms[-1] if run.refusing_ms else 0
        seen_within_ms = NOTICED_MS_MAX if run.is_troubled else SEEN_MS_MAX
        told: dict[str, tuple[Node, ...]] = {each.id: each.nodes for each in run.claims()}
        told |= {each.id: each.nodes for each in run.pools()}
        replacing = {each.id for each in run.pools() if each.replacements}  # Its spare machine is a warm node.
        for subject, warm, sight in stocks_of(run):
            if subject in replacing:
                continue
            was, since_ms = self._still.get(subject, (None, now_ms))
            self._still[subject] = (sight, since_ms if was == sight else now_ms)
            is_still = was == sight and now_ms > max(since_ms, refused_ms) + seen_within_ms
            if is_still and warm_among(told.get(subject, ())) != warm:
                yield f"what stands warm is told: {subject} has {warm}, not {warm_among(told.get(subject, ()))}"


def stocks_of(run: Run) -> Iterator[tuple[str, int, object]]:
    """Of each cluster whose nodes have all joined: whose it is, how many nodes it has to spare, and all that it is."""
    for each in run.world.store.all(kinds.INSTANCES):
        project, name = namespace_of(each).removeprefix(PREFIX), name_of(each)
        if is_terminating(each) or f"{project}/{name}" in run.others:
            continue
        subject = labels_of(each).get(ENDPOINT) or pool_id(project=project, cluster=name)
        nodes = [
            name_of(claim)
            for claim in run.world.store.all(kinds.NODE_CLAIMS, namespace_of(each))
            if claim["spec"].get("vClusterRef") == name and is_true(claim, "Joined") and not is_terminating(claim)
        ]
        if len(nodes) == quantity_of(each):
            yield subject, warm_of(each), (warm_of(each), sorted(nodes), sorted(shares_of(each)))


def is_silent(run: Run, node: str) -> bool:
    """Whether the machine is dead, as only the simulated Platform knows."""
    clusters = [each.cluster for each in run.world.tenants.values() if each.cluster is not None]
    return any(node in each.kubelet.silent for each in clusters)


def replacements(run: Run) -> Iterator[str]:
    """Every replacement that was asked for is over, and was told to be so once."""
    asked = Counter(each.data.claim for each in run.told if isinstance(each.data, NodeReplacementRequested))
    ended = Counter(each.data.claim for each in run.told if isinstance(each.data, NodeReplaced))
    if asked != ended:
        yield f"every replacement ends once: asked {asked - ended}, ended {ended - asked}"


def thefts(run: Run) -> Iterator[str]:
    """A shared cluster that somebody else deleted is told of; once for several in a row that nobody noticed."""
    taken = Counter(each.pool for each in run.ageing.thefts)
    drifts = (each.subject for each in run.told if isinstance(each.data, CapacityDrifted))
    told = Counter(each for each in drifts if is_pool_id(each))
    for pool in sorted({*taken, *told}):
        if not min(1, taken[pool]) <= told[pool] <= taken[pool]:
            yield f"a theft is told: {pool} lost its cluster to others {taken[pool]} times, and told {told[pool]}"


def at_rest(run: Run) -> None:
    """Raise Broken if anything is left, or if a GPU-second went missing."""
    _insist(thefts(run))
    _insist(ownerless(run))
    _insist(held_once(run))
    _insist(quota(run))
    _insist(replacements(run))
    _insist(times(run))


def ownerless(run: Run) -> Iterator[str]:
    """No machine is held for nobody."""
    owned = {f"{PREFIX}{cluster}" for cluster in run.others}
    for each in run.world.store.all(kinds.NODE_CLAIMS):
        cluster = f"{namespace_of(each)}/{each['spec'].get('vClusterRef')}"
        if cluster not in owned:
            yield f"no GPU is held without an owner: {name_of(each)} of {cluster}"
    for claim in run.claims():
        if claim.reservation is not None:
            yield f"no GPU is held without an owner: {claim.id} is released with {claim.reservation}"


def held_once(run: Run) -> Iterator[str]:
    """No machine is in two claims."""
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for claim in run.claims():
        for node in live_nodes(claim):
            holders[node.name].append(claim.id)
    for pool in run.pools():
        for node in live(pool.nodes):
            holders[node.name].append(pool.id)
    for name, ids in sorted(holders.items()):
        if len(ids) > 1:
            yield f"no GPU is held twice: {name} by {ids}"


def room(run: Run) -> Iterator[str]:
    """The pool of a shared cluster is as large as its shares need, at once: both are written together."""
    of = {life.home: life.tier for life in run.lives.values() if life.tier.is_shared}
    for each in run.world.store.all(kinds.INSTANCES):
        tier = of.get(f"{namespace_of(each).removeprefix(PREFIX)}/{name_of(each)}")
        if tier is not None and not is_terminating(each):
            replicas = sum(share.replicas for name, share in shares_of(each).items() if name in run.lives)
            needed = -(-replicas // (tier.gpus_per_node // tier.gpus_each))
            if quantity_of(each) < needed + warm_of(each):
                yield f"a shared cluster has room for its shares: {name_of(each)} has {quantity_of(each)}, not {needed}"


def quota(run: Run) -> Iterator[str]:
    """The counters are the sums of what claims hold, and within the limit."""
    held: Counter[str] = Counter(dict.fromkeys(run.store.counters, 0))
    for claim in run.claims():
        if claim.reservation is not None:
            held[gpu_counter(tenant_id=claim.tenant_id, node_type=claim.reservation.node_type)] += (
                claim.reservation.gpus
            )
    for counter, gpus in sorted(held.items()):
        if run.store.counter(counter) != gpus:
            yield f"quota is what is reserved: {counter} says {run.store.counter(counter)}, claims hold {gpus}"


def times(run: Run) -> Iterator[str]:
    """What was told of each machine is what the Platform saw, and every moment of it is in exactly one account.

    A machine that is said to be gone too early ends with that lie only if no look saw it again before it went: who gets
    no answer until then can't know better, however long that lasts. And few callers use up ordered refusals slowly, so
    that an outage at the end of a run can be long: what is noticed late counts from its end.
    """
    held, shown_ms = accounts.told_ms(run.told), last_shown_ms(run)
    others = {each.split("/")[1] for each in run.others}
    seen = {each.name: each for each in run.truth.machines.values() if each.endpoint not in others}
    for name, machine in sorted(seen.items()):
        if machine.joined_ms is None or machine.gone_ms is None:
            continue
        if name not in held:
            # Nothing knows of a node that joined and went between two looks, or while its cluster was not found yet.
            if not machine.endpoint.startswith("stray-") and machine.gone_ms - machine.joined_ms > NOTICED_MS_MAX:
                yield f"held time is told: {machine} never was"
            continue
        _, _, from_ms, to_ms = held[name]
        if not machine.joined_ms - SECOND_OF_THE_API_MS <= from_ms <= machine.joined_ms + NOTICED_MS_MAX:
            yield f"held time begins with the machine: told {from_ms}, {machine}"
        known_ms = max((each for each in run.refusing_ms if machine.gone_ms < each <= to_ms), default=machine.gone_ms)
        if not shown_ms.get(name, machine.joined_ms) <= to_ms <= known_ms + NOTICED_MS_MAX:
            yield f"held time ends with the machine: told {to_ms}, seen at {shown_ms.get(name)}, {machine}"
    entries = accounts.booked(heard(run), rng=Random(run.seed), end_ms=run.clock.now_ms())
    yield from accounts.wrong(entries, held)
    warm, told = accounts.gpu_ms(entries)[Account.WARM], accounts.warm_told_ms(heard(run))
    if warm != told:
        yield f"warm time is in the account for it: {warm} GPU-ms are, {told} were told to stand warm"


def last_shown_ms(run: Run) -> dict[str, int]:
    """By machine: when a look of whoever holds it showed it last, while it stood.

    Endpoints that share a cluster see its machines too, but it is their pool that tells of them.
    """
    found: dict[str, int] = {}
    rows = run.store.journal_rows(limit=1000)
    while rows:
        for row in rows:
            if row.cause_type not in LOOKS:
                continue
            for node in json.loads(row.cause)["data"]["nodes"]:
                machine = run.truth.machines[node["name"]]
                if row.cause_type == type_of(Observed) and is_pool_id(machine.endpoint):
                    continue
                if machine.gone_ms is None or row.at_ms < machine.gone_ms:
                    found[machine.name] = row.at_ms
        rows = run.store.journal_rows(after=rows[-1].seq, limit=1000)
    return found


def heard(run: Run) -> dict[str, list[Envelope]]:
    """What metering hears of each endpoint."""
    found: defaultdict[str, list[Envelope]] = defaultdict(list)
    for life in run.lives.values():
        found[life.id] += life.heard
    for each in run.told:
        found[each.subject].append(each)
    return found


def _insist(broken: Iterator[str]) -> None:
    first = next(broken, None)
    if first is not None:
        raise Broken(first)
