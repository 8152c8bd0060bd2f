"""Quota under concurrency: 64 threads, one tenant, and never more than the limit; and it is all given back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from libs.common.clock import ManualClock
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.ids import EventId
from libs.common.runner import Runner
from libs.common.store.memory import MemoryStore
from libs.common.waking import tick_all
from services.capacity_manager.core.lifecycle import Stage, stage_of
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.question import question_of
from services.capacity_manager.core.state import Claim
from services.capacity_manager.service import owned
from tests.unit.capacity_manager.builders import NOW, READY_PROJECT, REMOVED, ROOMY, RULES, deletion, requested

THREADS: Final = 64
COUNTER: Final = "gpus/acme/metal3.gpu-h100"


class Desk:
    """Many claims of one tenant on one store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = ManualClock(NOW)
        self.runner: Runner[Claim] = Runner(owned(RULES), store=self.store, clock=self.clock)

    def hear(self, key: str, data: Event, *, generation: int = 1, sequence: int = 1) -> Claim:
        name = f"{key}|{data.kind}|{generation}|{sequence}|{self.store.load('claim', key)}"
        return self.runner.take(
            key,
            Envelope(EventId(name), data, subject=key, time_ms=NOW, generation=generation, sequence=sequence),
        )

    def see(self, key: str) -> Claim:
        claim = self.runner.state(key)
        assert claim is not None
        seen = Observed(question=question_of(claim), project=READY_PROJECT, cluster=None, node_type=ROOMY)
        return self.hear(key, seen)

    def held(self) -> int:
        return sum(each.reservation.gpus for each in self.runner.states() if each.reservation)


def create(desk: Desk, key: str) -> Claim:
    desk.hear(key, requested())
    return desk.see(key)


def test_64_claims_at_once_take_exactly_the_limit_and_the_rest_wait() -> None:
    desk = Desk()
    keys = [f"ep-{each}" for each in range(THREADS)]

    with ThreadPoolExecutor(THREADS) as pool:
        claims = list(pool.map(lambda key: create(desk, key), keys))

    stages = [stage_of(claim) for claim in claims]
    assert stages.count(Stage.RESERVED) == RULES.gpus_per_tenant_max // 8
    assert stages.count(Stage.REQUESTED) == THREADS - RULES.gpus_per_tenant_max // 8
    assert {claim.waiting for claim in claims} == {"", "QuotaExceeded"}
    assert desk.store.counter(COUNTER) == desk.held() == RULES.gpus_per_tenant_max


def test_quota_that_is_given_back_goes_to_those_who_wait_and_never_twice() -> None:
    desk = Desk()
    keys = [f"ep-{each}" for each in range(16)]
    for key in keys:
        create(desk, key)
    reserved = [each.id for each in desk.runner.states() if each.reservation]

    for key in reserved[:4]:
        desk.hear(key, deletion(), generation=2, sequence=2)
        desk.hear(key, REMOVED, generation=2)
        desk.see(key)
    assert desk.store.counter(COUNTER) == RULES.gpus_per_tenant_max, "nothing is free before it is confirmed"
    desk.clock.advance(RULES.confirm_gone_ms)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: tick_all([desk.runner]), range(4)))
    for key in reserved[:4]:
        assert desk.see(key).is_released
    waiting = [each.id for each in desk.runner.states() if not each.reservation and not each.is_unwanted]
    with ThreadPoolExecutor(len(waiting)) as pool:
        list(pool.map(desk.see, waiting))

    assert desk.store.counter(COUNTER) == desk.held() == RULES.gpus_per_tenant_max
    assert len([each for each in desk.runner.states() if each.reservation]) == 8
