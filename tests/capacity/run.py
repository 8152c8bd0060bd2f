"""A run: capacity-manager over the twin on one clock, with customers and trouble; metering's core does the accounts."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from libs.common.clock import ManualClock
from libs.common.events.envelope import Envelope, from_wire
from libs.common.service import Service
from libs.common.store.memory import MemoryStore
from libs.common.units import MINUTE_MS, SECOND_MS
from libs.twin import kinds
from libs.twin.fake_engines import FakeEngines
from libs.twin.inprocess import WorldTransport
from libs.twin.objects import is_terminating, name_of, namespace_of
from libs.twin.options import DEFAULT_KEY, NODE_TYPES, TwinOptions
from libs.twin.world import World
from services.capacity_manager.core.decide import Rules
from services.capacity_manager.core.orphans import Caution
from services.capacity_manager.core.pools import POOL, Pool, PoolRules
from services.capacity_manager.core.state import CLAIM, Claim
from services.capacity_manager.core.warmth import Warm
from services.capacity_manager.service import HEARS, build
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.platform.shares import Share, written
from services.capacity_manager.shell.platform.shares import of as shares_of
from services.capacity_manager.shell.ports import Ports
from tests.capacity.ageing import Ageing
from tests.capacity.lives import H100, L40S, OF_ALL, SANDBOXED, Life, lives
from tests.capacity.trouble import CALLS, Crash, Trouble
from tests.capacity.truth import Truth

STEP_MS: Final = 2 * SECOND_MS
CONFIRM_GONE_MS: Final = 4 * SECOND_MS  # Longer than a lie of the Platform lasts; that is what an operator sets it by.
GPUS_PER_TENANT_MAX: Final = 48
NODES: Final = {"metal3.gpu-h100": 24, "terraform.gpu-l40s": 40}
OPTIONS: Final = TwinOptions(
    time_scale=0.02,
    node_types=tuple(each.model_copy(update={"capacity": NODES[each.name]}) for each in NODE_TYPES),
)
RULES: Final = Rules(
    GPUS_PER_TENANT_MAX,
    confirm_gone_ms=CONFIRM_GONE_MS,
    quota_retry_ms=2 * SECOND_MS,
    warm={L40S.name: Warm(1), H100.name: Warm(1)},
)
CAUTION: Final = Caution(per_pass_max=2, grace_ms=20 * SECOND_MS)
POOLS: Final = PoolRules(
    confirm_gone_ms=CONFIRM_GONE_MS,
    grace_ms=20 * SECOND_MS,
    warm={OF_ALL.name: Warm(1), SANDBOXED.name: Warm(2)},
)
SHARE: Final = "stray share"
REST_MS_MAX: Final = 10 * MINUTE_MS
MANAGEMENT: Final = "/kubernetes/management/apis/management.loft.sh/v1"
Spoil = Callable[[Service], Service]


@dataclass
class Run:
    """Everything of one seed. `spoil` plants a bug into each new process; `scripted` are lives that are not drawn."""

    seed: int
    endpoints: int
    spoil: Spoil = lambda service: service
    strangers: int = 4
    is_troubled: bool = True
    die_at: int = 0
    scripted: Sequence[Life] = ()
    told: list[Envelope] = field(default_factory=list)
    others: set[str] = field(default_factory=set)
    refusing_ms: list[int] = field(default_factory=list)  # When calls were going to be refused.

    def __post_init__(self) -> None:
        rng = Random(self.seed)  # Repeatable on purpose.
        self.clock = ManualClock()
        self.began_ms = self.clock.now_ms()
        self.world = World(self.clock, OPTIONS, FakeEngines())
        self.truth = Truth(self.world)
        self.trouble = Trouble(Random(rng.random()), is_on=self.is_troubled, die_at=self.die_at)
        self.ageing = Ageing(Random(self.seed + 1), Random(self.seed + 2))
        self.trouble.sees = self.ageing.note
        self.store = MemoryStore(self.trouble.pass_by)
        directory = tempfile.mkdtemp(prefix="mr-capacity-")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._key = Path(directory) / "key"
        self._key.write_text(DEFAULT_KEY)
        drawn = self.scripted or lives(rng, self.endpoints, from_ms=self.began_ms)
        self.lives = {each.id: each for each in drawn}
        self._unborn = sorted(self.lives.values(), key=lambda life: life.acts[0].at_ms, reverse=True)
        self._active: dict[str, Life] = {}
        self.strays = self._draw_strays(rng)
        self._project = self._make_project("t0", "p0")
        self.start()

    def start(self) -> None:
        """What a new process does."""
        client = PlatformClient(
            url="http://twin", key_file=self._key, transport=WorldTransport(self.world, self.trouble)
        )  # fmt: skip
        ports = Ports(self.store, self.clock, Platform(client), RULES, CAUTION, POOLS, resync_ms=5 * SECOND_MS)
        self.service = self.spoil(build(ports))

    def play(self, check: Callable[[Run], None]) -> None:
        """All lives to their end, with trouble; then without, until nothing moves. `check` sees every step."""
        while self._unborn or self._active or self.strays:
            self.step()
            check(self)
        self.come_to_rest(check)

    def come_to_rest(self, check: Callable[[Run], None] = lambda _run: None) -> None:
        """Heal everything and wait until all that was wanted is so."""
        self.trouble.heal(self.world, self.clock.now_ms())
        for _ in range(REST_MS_MAX // STEP_MS):
            self.step()
            check(self)
            if self.is_at_rest():
                return
        held = [each["name"] for each in self._clusters()] + [each.id for each in self.claims() if not each.is_released]
        raise AssertionError(f"no GPU is held without an owner, but after {REST_MS_MAX} ms: {held}")

    def is_at_rest(self) -> bool:
        """Whether all claims and pools are released and no stray cluster is left."""
        left = {each["name"] for each in self._clusters()} - {each.split("/")[1] for each in self.others}
        holders: tuple[Claim | Pool, ...] = (*self.claims(), *self.pools())
        return not left and all(each.is_released for each in holders)

    def step(self) -> None:
        """Two seconds of everybody's time."""
        self.clock.advance(STEP_MS)
        now_ms = self.clock.now_ms()
        self.trouble.stir(self.world, now_ms)
        if self.trouble.is_on:
            self.ageing.stir(self)
        while self.strays and self.strays[-1][0] <= now_ms:
            self.plant(*self.strays.pop()[1:])
        while self._unborn and self._unborn[-1].acts[0].at_ms <= now_ms:
            life = self._unborn.pop()
            self._active[life.id] = life
        for life in list(self._active.values()):
            for act in life.due(now_ms):
                self.deliver(life.do(act, now_ms))
            if not life.acts:
                del self._active[life.id]
        self.survive(self._round)
        if any(getattr(self.world.faults, name) for name in CALLS):
            self.refusing_ms.append(now_ms)
        self._take_told()

    def deliver(self, envelopes: Sequence[Envelope]) -> None:
        """As the bus does: again, to the next process, if this one died of it."""
        for each in envelopes:
            if type(each.data) in HEARS:
                self.survive(lambda each=each: self.service.handle(each))  # type: ignore[misc]  # Bound at once.

    def stands(self, endpoint: str) -> bool:
        """Whether the Platform holds a cluster of the endpoint, or its share of one."""
        life = self.lives[endpoint]
        project, cluster = life.home.split("/")
        found = self.world.store.find(kinds.INSTANCES, f"p-{project}", cluster)
        return found is not None and (not life.tier.is_shared or endpoint in shares_of(found))

    def claims(self) -> list[Claim]:
        """All claims that there are or were."""
        return list(self.service.runner(CLAIM).every())

    def pools(self) -> list[Pool]:
        """All pools that there are or were."""
        return list(self.service.runner(POOL).every())

    def plant(self, endpoint: str, owner: str) -> None:
        """A cluster that no claim knows of: ours and forgotten, or another owner's; or a share of that kind."""
        if owner == SHARE:
            self._plant_share(endpoint)
            return
        body = {
            "metadata": {
                "name": endpoint,
                "labels": {
                    "app.kubernetes.io/managed-by": "somebody" if owner == "somebody" else "millrace",
                    "millrace.dev/tenant": "t0",
                    "millrace.dev/project": "p0",
                    "millrace.dev/endpoint": endpoint,
                    "millrace.dev/installation": owner,
                    "millrace.dev/generation": "7",
                },
            },
            "spec": {
                "templateRef": {"name": "inference-l40s", "version": "1.0.0"},
                "clusterRef": {"cluster": "eu-1"},
                "parameters": "gpuQuantity: 1\nnodeType: terraform.gpu-l40s\n",
            },
        }
        answer = self._ask("POST", f"{MANAGEMENT}/namespaces/p-{self._project}/virtualclusterinstances", body)
        assert answer == 201, answer
        if owner != "millrace":
            self.others.add(f"{self._project}/{endpoint}")

    def _plant_share(self, endpoint: str) -> None:
        for each in self.world.store.all(kinds.INSTANCES):
            if shares_of(each) and not is_terminating(each):
                marked = {"metadata": {"annotations": written({endpoint: Share(1, 1)})}}
                path = f"{MANAGEMENT}/namespaces/{namespace_of(each)}/virtualclusterinstances/{name_of(each)}"
                assert self._ask("PATCH", path, marked, "application/merge-patch+json") == 200, each
                self.trouble.tally[SHARE] += 1
                return

    def _make_project(self, tenant: str, project: str) -> str:
        name = f"mr-{tenant}-{project}"
        labels = {
            "app.kubernetes.io/managed-by": "millrace",
            "millrace.dev/tenant": tenant,
            "millrace.dev/project": project,
        }
        spec = {
            "allowedClusters": [{"name": "eu-1"}],
            "allowedTemplates": [
                {"kind": "VirtualClusterTemplate", "group": "storage.loft.sh", "name": each}
                for each in ("inference-h100", "inference-l40s")
            ],
            "allowedNodeTypes": [{"name": each} for each in NODES],
        }
        self._ask("POST", f"{MANAGEMENT}/projects", {"metadata": {"name": name, "labels": labels}, "spec": spec})
        return name

    def _draw_strays(self, rng: Random) -> list[tuple[int, str, str]]:
        whole_ms = 20 * SECOND_MS + self.endpoints * 1_000
        drawn = [
            (self.began_ms + rng.randrange(5_000, whole_ms), f"stray-{number}", owner)
            for number, owner in enumerate(["millrace"] * self.strangers + ["another", "somebody", SHARE, SHARE])
        ]
        return sorted(drawn, reverse=True)

    def _ask(self, method: str, path: str, body: dict[str, Any], kind: str = "application/json") -> int:
        faults, self.world.faults = self.world.faults, OPTIONS.faults.model_copy()
        headers = {"authorization": f"Bearer {DEFAULT_KEY}", "content-type": kind}
        try:
            return self.world.request(method, path, {}, headers, json.dumps(body).encode()).status
        finally:
            self.world.faults = faults

    def _clusters(self) -> list[dict[str, Any]]:
        found: Any = self.world.inventory()["clusters"]
        return list(found)

    def _round(self) -> None:
        self.service.tick()
        self.service.reconcile()

    def survive(self, act: Callable[[], object]) -> None:
        """Do it, in the next process if this one dies of it."""
        for _ in range(20):  # Deaths in a row that no seed comes near.
            try:
                act()
                return
            except Crash:
                self.start()
        raise AssertionError("died again and again of one thing")

    def _take_told(self) -> None:
        for position in sorted(self.store.outbox):
            told = from_wire(self.store.outbox[position].headers, self.store.outbox[position].body)
            self.told.append(told)
            if told.subject in self.lives:
                self.deliver(self.lives[told.subject].hear(told))
        self.store.outbox.clear()
