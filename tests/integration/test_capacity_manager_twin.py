"""capacity-manager with its real adapter against the twin: a whole life, with trouble and with crashes in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from libs.common.clock import ManualClock, SystemClock
from libs.common.events.capacity import CapacityFailed, CapacityWaiting, NodeJoined, NodeReleased, PoolDrawn
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event
from libs.common.service import Service
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Store
from libs.common.store.sql import SqlStore
from libs.common.units import MINUTE_MS
from libs.twin.fake_engines import FakeEngines
from libs.twin.inprocess import WorldTransport
from libs.twin.options import DEFAULT_KEY, NODE_TYPES, TwinOptions
from libs.twin.world import World
from services.capacity_manager.core.decide import Rules
from services.capacity_manager.core.lifecycle import Stage, attention_of, live_nodes, stage_of
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.warmth import Warm
from services.capacity_manager.service import build
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.ports import Ports
from tests.support.ports import free_port
from tests.support.preloaded import Program
from tests.support.web import NO_TLS
from tests.unit.capacity_manager.builders import (
    ENDPOINT,
    PLACEMENT,
    REMOVED,
    an_envelope,
    deletion,
    failure,
    requested,
    scaled,
)

STEP_MS: Final = 400
OPTIONS: Final = TwinOptions(time_scale=0.01)
COUNTER: Final = "gpus/acme/metal3.gpu-h100"
RULES: Final = Rules(gpus_per_tenant_max=64, confirm_gone_ms=1_000, quota_retry_ms=400)
NOTHING: Final[dict[str, list[object]]] = {
    "clusters": [],
    "claims": [],
    "nodes": [],
    "objects": [],
    "pods": [],
    "caches": [],
    "processes": [],
}


class Crash(BaseException):
    """The process dies here; nothing may catch it."""


@dataclass
class CrashAt:
    """Dies at the n-th moment: before or after a commit, before or after a request that changes something."""

    place: int = 0
    count: int = 0

    def before(self, method: str, path: str) -> None:
        del method, path
        self.pass_by()

    def after(self, method: str, path: str, status: int) -> None:
        del method, path, status
        self.pass_by()

    def pass_by(self, _moment: str = "") -> None:
        self.count += 1
        if self.count == self.place:
            raise Crash


@dataclass
class Rig:
    """A twin, and a capacity-manager that can be killed and started again over the same store."""

    key_file: Path
    options: TwinOptions = OPTIONS
    rules: Rules = RULES
    crash: CrashAt = field(default_factory=CrashAt)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.key_file.write_text(DEFAULT_KEY)
        self.world = World(self.clock, self.options, FakeEngines())
        self.store = MemoryStore(self.crash.pass_by)
        self.service = self.start()

    def start(self) -> Service:
        """What a new process does."""
        transport = WorldTransport(self.world, self.crash)
        client = PlatformClient(url="http://twin", key_file=self.key_file, transport=transport)
        ports = Ports(self.store, self.clock, Platform(client), self.rules, resync_ms=1_000)
        return build(ports)

    def hear(self, data: Event, *, generation: int = 1, sequence: int = 1, subject: str = ENDPOINT) -> None:
        """Deliver as the bus does: again, to the next process, if this one died of it."""
        envelope = an_envelope(data, generation=generation, sequence=sequence, subject=subject)
        self._survive(lambda: self.service.handle(envelope))

    def step(self) -> None:
        self.clock.advance(STEP_MS)
        self._survive(self.service_round)

    def service_round(self) -> None:
        self.service.tick()
        self.service.reconcile()

    def until(self, holds: Callable[[], bool], *, within_ms: int = 2 * MINUTE_MS) -> None:
        for _ in range(within_ms // STEP_MS):
            if holds():
                return
            self.step()
        raise AssertionError(f"never came to pass; told {self.kinds()}, claim {self.claim()}")

    def rest(self, *, for_ms: int) -> None:
        for _ in range(for_ms // STEP_MS):
            self.step()

    def claim(self, key: str = ENDPOINT) -> Claim:
        claim = self.service.runners[0].state(key)
        assert isinstance(claim, Claim)
        return claim

    def stage(self, key: str = ENDPOINT) -> Stage:
        return stage_of(self.claim(key))

    def told(self) -> list[Envelope]:
        return [from_wire(each.headers, each.body) for each in self.store.outbox.values()]

    def kinds(self) -> list[str]:
        return [each.data.kind for each in self.told()]

    def reasons(self) -> list[str]:
        return [each.data.reason for each in self.told() if isinstance(each.data, CapacityWaiting)]

    def inventory(self) -> dict[str, Any]:
        found = dict(self.world.inventory())
        found.pop("projects")
        return found

    def writes(self) -> int:
        return len(self.store.rows)

    def _survive(self, act: Callable[[], object]) -> None:
        for _ in range(2):
            try:
                act()
                return
            except Crash:
                self.service = self.start()
        raise AssertionError("died twice of one thing")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "key"


def joined(rig: Rig) -> int:
    return sum(node.joined_at_ms is not None and node.missing is None for node in live_nodes(rig.claim()))


def live(rig: Rig) -> None:
    """Create, scale up, scale down, delete."""
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)
    rig.hear(scaled(3))
    rig.until(lambda: joined(rig) == 3)
    assert rig.store.counter(COUNTER) == 24
    rig.hear(scaled(1), sequence=2)
    rig.until(lambda: rig.store.counter(COUNTER) == 8)
    assert len(rig.inventory()["claims"]) == 1
    rig.hear(deletion(), generation=2, sequence=2)
    rig.rest(for_ms=3_000)
    assert rig.stage() is Stage.RELEASING
    assert len(rig.inventory()["clusters"]) == 1, "the runtime is still in it"
    rig.hear(REMOVED, generation=2)
    rig.until(lambda: rig.stage() is Stage.RELEASED)


def assert_all_is_given_back(rig: Rig) -> None:
    assert rig.inventory() == NOTHING
    assert rig.store.counter(COUNTER) == 0
    starts = {each.data.claim: each.data.at_ms for each in rig.told() if isinstance(each.data, NodeJoined)}
    ends = {each.data.claim: each.data.at_ms for each in rig.told() if isinstance(each.data, NodeReleased)}
    assert starts.keys() == ends.keys()
    assert all(starts[name] < ends[name] for name in starts)
    types = [node["status"]["capacity"]["claimed"] for node in _node_types(rig)]
    assert types == [0, 0]


def _node_types(rig: Rig) -> Sequence[dict[str, Any]]:
    path = "/kubernetes/management/apis/management.loft.sh/v1/nodetypes"
    answer = rig.world.request("GET", path, {}, {"authorization": f"Bearer {DEFAULT_KEY}"}, b"")
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


WHOLE_LIFE: Final = Counter(
    {
        "capacity.queued": 1,
        "capacity.reserved": 1,
        "capacity.cluster_ready": 1,
        "capacity.nodes_joined": 1,
        "capacity.gpu_ready": 1,
        "node.joined": 3,
        "node.released": 3,
        "capacity.released": 1,
    }
)


def test_a_whole_life_leaves_nothing_behind_and_tells_each_fact_once(key_file: Path) -> None:
    rig = Rig(key_file)

    live(rig)

    assert Counter(rig.kinds()) == WHOLE_LIFE
    assert_all_is_given_back(rig)


def test_a_claim_at_rest_writes_nothing(key_file: Path) -> None:
    rig = Rig(key_file)
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)
    rig.step()
    before = rig.writes()

    rig.rest(for_ms=20_000)

    assert rig.writes() == before
    assert attention_of(rig.claim()).name == "WATCH"


def moments_of_a_life(tmp: Path) -> int:
    rig = Rig(tmp)
    live(rig)
    return rig.crash.count


def test_a_crash_at_any_moment_changes_nothing_of_the_outcome(key_file: Path) -> None:
    moments = moments_of_a_life(key_file)
    assert moments > 50, "a life without moments would prove nothing"

    for place in range(1, moments + 1):
        rig = Rig(key_file, crash=CrashAt(place))
        live(rig)
        told = Counter(rig.kinds())
        assert {kind: told[kind] for kind in WHOLE_LIFE} == WHOLE_LIFE, f"crash at moment {place}"
        assert_all_is_given_back(rig)
        assert rig.crash.count >= place


def test_a_platform_that_is_away_is_waited_for_and_nothing_is_released_meanwhile(key_file: Path) -> None:
    rig = Rig(key_file)
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)
    rig.hear(deletion(), generation=2, sequence=2)
    rig.hear(REMOVED, generation=2)

    rig.world.set_faults({"unavailable_calls": 10_000})
    rig.rest(for_ms=5 * MINUTE_MS)

    assert rig.reasons() == ["PlatformUnavailable"]
    assert rig.stage() is Stage.RELEASING
    assert rig.store.counter(COUNTER) == 8
    assert len(rig.inventory()["claims"]) == 1
    rig.world.set_faults({"unavailable_calls": 0})
    rig.until(lambda: rig.stage() is Stage.RELEASED)
    assert_all_is_given_back(rig)


@pytest.mark.parametrize("how", ["html", "redirect", "half", "types", "nameless"])
def test_a_platform_that_talks_nonsense_in_the_middle_of_a_create_leaves_nothing_half_claimed(
    key_file: Path, how: str
) -> None:
    rig = Rig(key_file)
    rig.hear(requested())
    rig.until(lambda: rig.store.counter(COUNTER) == 8)

    rig.world.set_faults({"answers": how})
    rig.rest(for_ms=3_000)
    assert rig.reasons() == ["PlatformGarbled"]
    rig.world.set_faults({"answers": ""})
    rig.until(lambda: rig.stage() is Stage.HELD)

    found = rig.inventory()
    assert [len(found[each]) for each in ("clusters", "claims", "nodes")] == [1, 1, 1]
    assert rig.store.counter(COUNTER) == 8


def test_a_key_that_is_refused_in_the_middle_of_a_delete_releases_nothing(key_file: Path) -> None:
    rig = Rig(key_file)
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)
    key_file.write_text("expired")
    rig.hear(deletion(), generation=2, sequence=2)
    rig.hear(REMOVED, generation=2)

    rig.rest(for_ms=MINUTE_MS)
    assert rig.reasons() == ["PlatformUnauthorized"]
    assert rig.stage() is Stage.RELEASING
    key_file.write_text(DEFAULT_KEY)
    rig.until(lambda: rig.stage() is Stage.RELEASED)

    assert_all_is_given_back(rig)


def test_a_claim_waits_for_capacity_and_gets_it_when_another_gives_it_back(key_file: Path) -> None:
    few = NODE_TYPES[0].model_copy(update={"capacity": 1})
    rig = Rig(key_file, options=OPTIONS.model_copy(update={"node_types": (few, NODE_TYPES[1])}))
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)

    rig.hear(requested(), subject="ep-two")
    rig.rest(for_ms=10_000)
    assert rig.stage("ep-two") is Stage.REQUESTED
    assert rig.reasons() == ["NoCapacity"]
    rig.hear(deletion(), generation=2, sequence=2)
    rig.hear(REMOVED, generation=2)
    rig.until(lambda: rig.stage("ep-two") is Stage.HELD)

    assert rig.stage() is Stage.RELEASED


def test_a_claim_waits_for_quota_and_gets_it_when_it_is_confirmed_free(key_file: Path) -> None:
    rig = Rig(key_file, rules=Rules(gpus_per_tenant_max=8, confirm_gone_ms=1_000, quota_retry_ms=400))
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)

    rig.hear(requested(), subject="ep-two")
    rig.rest(for_ms=5_000)
    assert (rig.stage("ep-two"), rig.reasons()) == (Stage.REQUESTED, ["QuotaExceeded"])
    rig.hear(deletion(), generation=2, sequence=2)
    rig.hear(REMOVED, generation=2)
    rig.until(lambda: rig.stage("ep-two") is Stage.HELD)

    assert rig.store.counter(COUNTER) == 8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster_template": "no-such-template@1.0.0"}, "TemplateUnknown"),
        ({"cluster_template": "inference-h100@9.9.9"}, "TemplateUnknown"),
        ({"node_type": "metal3.gpu-unheard-of"}, "NodeTypeUnknown"),
    ],
)
def test_what_the_platform_does_not_know_fails_with_its_reason_and_is_given_back(
    key_file: Path, changes: dict[str, str], reason: str
) -> None:
    rig = Rig(key_file)
    wrong = requested().model_copy(update={"placement": PLACEMENT.model_copy(update=changes)})

    rig.hear(wrong)
    rig.until(lambda: rig.stage() is Stage.FAILED)

    assert [each.data.reason for each in rig.told() if isinstance(each.data, CapacityFailed)] == [reason]
    rig.hear(failure(), sequence=2)
    rig.hear(REMOVED)
    rig.until(lambda: rig.stage() is Stage.RELEASED)
    assert rig.inventory() == NOTHING
    assert rig.store.counter(COUNTER) == 0


def test_a_quota_of_the_platform_itself_is_waited_for(key_file: Path) -> None:
    rig = Rig(key_file)
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)
    _limit(rig, "1")

    rig.hear(requested(), subject="ep-two")
    rig.rest(for_ms=10_000)
    assert (rig.stage("ep-two"), rig.reasons()) == (Stage.RESERVED, ["QuotaExceeded"])
    _limit(rig, "2")
    rig.until(lambda: rig.stage("ep-two") is Stage.HELD)


def _limit(rig: Rig, instances: str) -> None:
    path = "/kubernetes/management/apis/management.loft.sh/v1/projects/mr-acme-prod"
    headers = {"authorization": f"Bearer {DEFAULT_KEY}", "content-type": "application/merge-patch+json"}
    body = f'{{"spec": {{"quotas": {{"project": {{"virtualclusterinstances": "{instances}"}}}}}}}}'.encode()
    assert rig.world.request("PATCH", path, {}, headers, body).status == 200


def test_a_node_that_fails_is_told_and_its_replacement_used(key_file: Path) -> None:
    rig = Rig(key_file)
    rig.world.set_faults({"failing_claims": 1})

    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)

    assert rig.reasons() in (["NodeFailed"], ["NodeFailed", "NodesPending"])
    assert rig.kinds().count("node.joined") == 1


def test_slow_deletes_are_waited_out_and_node_time_runs_until_the_nodes_are_gone(key_file: Path) -> None:
    rig = Rig(key_file)
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)
    rig.world.set_faults({"delete_factor": 50.0})
    rig.hear(deletion(), generation=2, sequence=2)
    rig.hear(REMOVED, generation=2)
    asked_ms = rig.clock.now_ms()

    rig.until(lambda: rig.stage() is Stage.RELEASED)

    (end,) = [each.data.at_ms for each in rig.told() if isinstance(each.data, NodeReleased)]
    assert end - asked_ms >= 50 * OPTIONS.scaled(OPTIONS.node_delete_ms)
    assert_all_is_given_back(rig)


def test_a_node_that_a_person_joined_is_let_go_before_its_cluster_goes_and_everything_else_with_it(
    key_file: Path,
) -> None:
    rig = Rig(key_file)
    rig.hear(requested())
    rig.until(lambda: rig.stage() is Stage.HELD)
    rig.world.machines.join(("mr-acme-prod", ENDPOINT), "box-1", gpus=4, profile="gpu")
    rig.rest(for_ms=3_000)
    assert "box-1" in [each["name"] for each in rig.inventory()["nodes"]]

    rig.hear(deletion(), generation=2, sequence=2)
    rig.hear(REMOVED, generation=2)
    rig.until(lambda: rig.stage() is Stage.RELEASED)

    assert rig.world.machines.dialing == set()
    assert_all_is_given_back(rig)


def test_warm_nodes_of_an_endpoint_s_own_cluster_serve_a_scale_up_that_finds_no_capacity(key_file: Path) -> None:
    rig = Rig(key_file, rules=replace(RULES, warm={"h100-dedicated": Warm(1)}))
    rig.hear(requested())
    rig.until(lambda: joined(rig) == 2)
    rig.rest(for_ms=2_000)
    assert rig.store.counter(COUNTER) == 8
    before = rig.writes()
    rig.rest(for_ms=5_000)
    assert rig.writes() == before, "a claim with a full stock is at rest"

    rig.world.set_faults({"no_capacity": True})
    rig.hear(scaled(2))
    rig.until(lambda: rig.store.counter(COUNTER) == 16)
    rig.rest(for_ms=3_000)

    assert joined(rig) == 2
    assert [(each.data.nodes, each.data.warm) for each in rig.told() if isinstance(each.data, PoolDrawn)] == [(1, 1)]
    assert rig.reasons() == []
    rig.hear(deletion(), generation=2, sequence=2)
    rig.hear(REMOVED, generation=2)
    rig.until(lambda: rig.stage() is Stage.RELEASED)
    rig.world.set_faults({"no_capacity": False})
    assert_all_is_given_back(rig)


def test_a_delete_that_comes_before_its_request_ends_both(key_file: Path) -> None:
    rig = Rig(key_file)

    rig.hear(deletion(), generation=2, sequence=2)
    rig.hear(requested())
    rig.hear(REMOVED, generation=2)
    rig.until(lambda: rig.stage() is Stage.RELEASED)

    assert Counter(rig.kinds()) == Counter(["capacity.queued", "capacity.released"])
    assert rig.inventory() == NOTHING


@dataclass
class Wired:
    """The same over real HTTP and real time: a twin process, and a capacity-manager in this one."""

    url: str
    key_file: Path

    store: Store = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        client = PlatformClient(url=self.url, key_file=self.key_file)
        self.service = build(Ports(self.store, SystemClock(), Platform(client), RULES, resync_ms=200))

    def until(self, stage: Stage, *, patience_s: float = 60.0) -> None:
        end_s = time.monotonic() + patience_s
        while self.stage() is not stage:
            assert time.monotonic() < end_s, f"never {stage}, stands in {self.stage()}"
            self.service.tick()
            self.service.reconcile()
            time.sleep(0.02)

    def stage(self) -> Stage:
        claim = self.service.runners[0].state(ENDPOINT)
        assert isinstance(claim, Claim)
        return stage_of(claim)


@pytest.fixture
def twin_url(key_file: Path) -> Iterator[str]:
    key_file.write_text(DEFAULT_KEY)
    port = free_port()
    pace = ("--time-scale", "0.005")
    process = Program("libs.twin", "--port", str(port), *pace, "--access-key-file", str(key_file))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.xdist_group("preloaded")
def test_over_real_http_a_claim_is_held_and_given_back(twin_url: str, key_file: Path) -> None:
    wired = Wired(twin_url, key_file)

    wired.service.handle(an_envelope(requested()))
    wired.until(Stage.HELD)
    wired.service.handle(an_envelope(deletion(), generation=2, sequence=2))
    wired.service.handle(an_envelope(REMOVED, generation=2))
    wired.until(Stage.RELEASED)

    inventory = httpx.get(f"{twin_url}/twin/v1/inventory", verify=NO_TLS).json()
    inventory.pop("projects")
    assert inventory == NOTHING
    assert wired.store.counter(COUNTER) == 0


@pytest.mark.xdist_group("preloaded")
def test_an_operator_sees_who_holds_what_what_is_nobodys_and_what_a_change_would_mean(
    twin_url: str, key_file: Path, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path}/capacity.db"
    with closing(SqlStore(database)) as store:
        wired = Wired(twin_url, key_file, store)
        wired.service.handle(an_envelope(requested()))
        wired.until(Stage.HELD)
    forgotten = {**STRAY, "metadata": {**STRAY["metadata"], "name": "ep-forgotten"}}
    path = (
        f"{twin_url}/kubernetes/management/apis/management.loft.sh/v1/namespaces/p-mr-acme-prod/virtualclusterinstances"
    )
    key = {"authorization": f"Bearer {DEFAULT_KEY}"}
    assert httpx.post(path, json=forgotten, headers=key, verify=NO_TLS).status_code == 201
    env = {
        **os.environ,
        "MILLRACE_PLATFORM_URL": twin_url,
        "MILLRACE_PLATFORM_KEY_FILE": str(key_file),
        "MILLRACE_DATABASE_URL": database,
        "COLUMNS": "150",
    }

    shown = _millrace(env)
    told = json.loads(_millrace(env, "--output", "json"))
    change = _millrace(env, "--change", "metal3.gpu-h100=terraform.gpu-l40s")

    print(shown, change)
    assert "ep-abc" in shown
    assert "serves" in shown
    assert "ep-forgotten" in shown
    (held,) = told["holdings"]
    assert (held["endpoint_id"], held["nodes"], held["gpus"], held["node_type"]) == (ENDPOINT, 1, 8, "metal3.gpu-h100")
    assert [each["name"] for each in told["orphans"]] == ["ep-forgotten"]
    assert "1 → 8" in change
    assert "possible" in change


STRAY: Final[dict[str, Any]] = {
    "metadata": {
        "labels": {
            "app.kubernetes.io/managed-by": "millrace",
            "millrace.dev/tenant": "acme",
            "millrace.dev/project": "prod",
            "millrace.dev/endpoint": "ep-forgotten",
            "millrace.dev/installation": "millrace",
        }
    },
    "spec": {
        "templateRef": {"name": "inference-h100", "version": "1.0.0"},
        "clusterRef": {"cluster": "eu-1"},
        "parameters": "gpuQuantity: 1\nnodeType: metal3.gpu-h100\n",
    },
}


def _millrace(env: dict[str, str], *args: str) -> str:
    command = [str(Path(sys.executable).with_name("millrace")), "capacity", *args]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
