"""Metering on a store in memory and a clock by hand, and the events that it hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from libs.common.clock import ManualClock
from libs.common.events.capacity import NodeJoined, NodeReleased
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointSpec,
    EndpointStageChanged,
    Placement,
    Stage,
)
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event
from libs.common.events.route import RequestUsage, UsageReported
from libs.common.events.usage import Meter, UsageConfirmed, UsageRecorded
from libs.common.ids import event_id
from libs.common.service import Service
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Entry
from libs.common.units import SECOND_MS
from services.metering.core.rating import PriceBook
from services.metering.core.windows import Windows
from services.metering.service import build
from services.metering.shell.ports import Ports
from services.metering.shell.purse import Limits

T0: Final = 1_800_000_000_000  # A border of 10-second and of minute windows.
WINDOWS: Final = Windows(size_ms=10 * SECOND_MS, settle_ms=2 * SECOND_MS)
ENDPOINT: Final = "ep-one"
ROOT: Final = f"acme/main/{ENDPOINT}"
ROUNDS_MAX: Final = 200


class Crash(Exception):
    """The process died here."""


class World:
    """Metering as its neighbours see it."""

    def __init__(self, windows: Windows = WINDOWS) -> None:
        self.clock = ManualClock(T0)
        self.moment: Callable[[str], None] = lambda _moment: None
        self.store = MemoryStore(on_commit=lambda moment: self.moment(moment))
        self.windows = windows
        self.limits = Limits()
        self.prices: PriceBook | None = None
        self.service: Service = self.start()

    def start(self) -> Service:
        """A fresh process over what is stored."""
        self.service = build(Ports(self.store, self.clock, self.windows, self.limits, self.prices))
        return self.service

    def price(self, book: PriceBook) -> None:
        """A fresh process with this price book."""
        self.prices = book
        self.start()

    def hear(self, *envelopes: Envelope) -> None:
        """Deliver events."""
        for each in envelopes:
            self.service.handle(each)

    def rest(self) -> None:
        """Let clock-driven and world-driven work go on until there is none at this time."""
        for _ in range(ROUNDS_MAX):
            before = len(self.store.rows)
            self.service.tick()
            self.service.reconcile()
            if len(self.store.rows) == before:
                return
        raise AssertionError("metering does not come to rest")

    def pass_time(self, seconds: int) -> None:
        """Let time pass in steps of a second."""
        for _ in range(seconds):
            self.clock.advance(SECOND_MS)
            self.rest()

    def lines(self, meter: Meter = Meter.GPU_MS) -> list[Entry]:
        """The lines of one meter."""
        return [each for each in self.store.ledger.values() if each.meter == meter]

    def told(self) -> list[Event]:
        """Everything ever told, in order."""
        return [from_wire(each.headers, each.body).data for each in self.store.outbox.values() if each.headers]

    def windows_told(self) -> list[UsageRecorded]:
        """The billing events but those of node time, which goes with GPU time."""
        return [each for each in self.told() if isinstance(each, UsageRecorded) and each.meter is not Meter.NODE_MS]

    def confirmed(self) -> list[UsageConfirmed]:
        """What routers were told."""
        return [each for each in self.told() if isinstance(each, UsageConfirmed)]

    def bill(self) -> dict[tuple[str, str, int], int]:
        """What a billing system that keeps the last revision of each window has, without zeros."""
        last = {
            (each.meter.value, each.account, each.window_start_ms, each.model): each.quantity
            for each in sorted(self.windows_told(), key=lambda each: each.revision)
        }
        found: dict[tuple[str, str, int], int] = {}
        for (meter, account, start_ms, _model), quantity in last.items():
            found[meter, account, start_ms] = found.get((meter, account, start_ms), 0) + quantity
        return {window: quantity for window, quantity in found.items() if quantity}

    def sums(self) -> dict[tuple[str, str], int]:
        """The ledger by account (without the endpoint's part) and meter; node time, which goes with GPU time, not."""
        return {
            (each.account.removeprefix(ROOT).removeprefix("/"), each.meter): each.quantity
            for each in self.store.totals(from_ms=0, to_ms=1 << 60)
            if each.meter != Meter.NODE_MS
        }


def envelope(
    data: Event,
    *,
    subject: str = ENDPOINT,
    sequence: int = 1,
    at_ms: int = T0,
    name: str = "",
    generation: int = 1,
) -> Envelope:
    """An event as its owner told it."""
    cause = f"{name}|{sequence}|{at_ms}|{data.model_dump_json()}"
    return Envelope(event_id(cause, data.kind, 0), data, subject, at_ms, generation=generation, sequence=sequence)


def requested(
    *,
    at_ms: int = T0,
    sequence: int = 1,
    tenant: str = "acme",
    endpoint: str = ENDPOINT,
    generation: int = 1,
    model: str = "millrace/ngram-1",
) -> Envelope:
    """An endpoint was asked for."""
    placement = Placement(
        tenancy="tenant_cluster",
        node_type="metal3.gpu-h100",
        gpus_per_node=8,
        gpus_per_replica=4,
        cluster_template="inference-h100@1.0.0",
        runtime_template="vllm@1",
        model_digest="sha256:0",
        model_size_bytes=1,
        price_class="h100",
    )
    spec = EndpointSpec(model=model, tier="h100-dedicated", region="eu-1")
    data = EndpointRequested(tenant_id=tenant, project_id="main", name="chat", spec=spec, placement=placement)
    return envelope(data, subject=endpoint, sequence=sequence, at_ms=at_ms, generation=generation)


def staged(stage: Stage, *, since_ms: int, sequence: int) -> Envelope:
    """The endpoint's stage changed."""
    data = EndpointStageChanged(
        tenant_id="acme", project_id="main", name="chat", stage=stage, previous=Stage.REQUESTED, since_ms=since_ms
    )
    return envelope(data, sequence=sequence, at_ms=since_ms)


def joined(claim: str, *, at_ms: int, sequence: int, gpu_count: int = 8) -> Envelope:
    """A node came."""
    data = NodeJoined(claim=claim, node_type="metal3.gpu-h100", gpu_count=gpu_count, at_ms=at_ms)
    return envelope(data, sequence=sequence, at_ms=at_ms)


def released(claim: str, *, at_ms: int, sequence: int) -> Envelope:
    """A node went."""
    return envelope(NodeReleased(claim=claim, at_ms=at_ms), sequence=sequence, at_ms=at_ms)


def paused(*, at_ms: int, sequence: int, generation: int) -> Envelope:
    """The tenant wants the endpoint kept, but not running."""
    data = EndpointPauseRequested(tenant_id="acme", project_id="main", drain_deadline_ms=1000)
    return envelope(data, sequence=sequence, at_ms=at_ms, generation=generation)


def failed(*, at_ms: int, sequence: int, generation: int) -> Envelope:
    """The endpoint can't become ready."""
    data = EndpointFailed(tenant_id="acme", project_id="main", reason="Deadline", message="too late")
    return envelope(data, sequence=sequence, at_ms=at_ms, generation=generation)


def deleted(*, at_ms: int, sequence: int = 50) -> Envelope:
    """The tenant wants the endpoint gone."""
    data = EndpointDeletionRequested(tenant_id="acme", project_id="main", drain_deadline_ms=1000)
    return envelope(data, sequence=sequence, at_ms=at_ms)


def usage(
    request_id: str,
    *,
    ended_ms: int = T0 + 1500,
    prompt_tokens: int | None = 10,
    completion_tokens: int = 5,
    endpoint: str = ENDPOINT,
    tenant: str = "acme",
    started_ms: int = T0 - 1000,
) -> RequestUsage:
    """A request that was served."""
    return RequestUsage(
        request_id=request_id,
        tenant_id=tenant,
        project_id="main",
        endpoint_id=endpoint,
        generation=1,
        model="millrace/ngram-1",
        tier="h100-dedicated",
        region="eu-1",
        key_id="abcdefghij",
        api="chat",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        token_source="engine_final",
        finish="stop",
        started_ms=started_ms,
        first_token_ms=None,
        ended_ms=ended_ms,
    )


def batch(
    requests: Sequence[RequestUsage],
    *,
    instance: str = "router-1",
    boot_id: str = "boot-1",
    boot_seq: int = 1,
    at_ms: int = T0 + 2000,
) -> Envelope:
    """A router's report."""
    data = UsageReported(instance=instance, boot_id=boot_id, boot_seq=boot_seq, requests=tuple(requests))
    return envelope(data, subject=instance, sequence=boot_seq, at_ms=at_ms, name=instance)


def life() -> list[Envelope]:
    """Everything that metering hears of a short life with usage, from two routers."""
    return [
        requested(),
        joined("n1", at_ms=T0 + 500, sequence=1),
        staged(Stage.READY, since_ms=T0 + 3_000, sequence=2),
        batch([usage("r1"), usage("r2", ended_ms=T0 + 4_000)]),
        batch([usage("r2", ended_ms=T0 + 4_000), usage("r3", ended_ms=T0 + 12_000)], instance="router-2"),
        batch([usage("r3", ended_ms=T0 + 12_000, completion_tokens=99), usage("r4")], boot_seq=2),
        deleted(at_ms=T0 + 17_000),
        staged(Stage.DRAINING, since_ms=T0 + 17_000, sequence=3),
        released("n1", at_ms=T0 + 18_250, sequence=2),
    ]


def live(world: World, deliver: Callable[[World, Envelope], None]) -> None:
    """Live it, in real time, then let everything be told."""
    for each in life():
        deliver(world, each)
        attempt(world, lambda: world.pass_time(3))
    for _ in range(20):
        attempt(world, lambda: world.pass_time(2))


def attempt(world: World, act: Callable[[], object]) -> None:
    """Do it; where the process dies, start it again and do it again, as the bus and a supervisor would."""
    while True:
        try:
            act()
            return
        except Crash:
            world.start()
