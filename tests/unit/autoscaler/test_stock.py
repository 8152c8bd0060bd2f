"""How many nodes should stand warm: as many as were drawn within one boot, in the last hour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from libs.common.events.capacity import PoolDrawn
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.scale import PoolTargeted
from libs.common.ids import EventId
from libs.common.runner import Woke
from libs.common.units import MINUTE_MS
from services.autoscaler.core.stock import BOOT_MS, WINDOW_MS, Draw, Stock, at_once, decide_stock

NOW: Final = 1_800_000_000_000


@dataclass
class Bench:
    """One pool's stock, stepped by hand."""

    now_ms: int = NOW
    sequence: int = 0
    stock: Stock = field(default_factory=lambda: Stock("sc-a"))
    told: list[int] = field(default_factory=list)
    wake_at_ms: int | None = None

    def draw(self, nodes: int) -> None:
        self.sequence += 1
        self.take(PoolDrawn(tier="t", region="r", nodes=nodes, warm=0), self.sequence)

    def take(self, data: Event, sequence: int = 0) -> None:
        decision = decide_stock(self.stock, Envelope(EventId("e"), data, "sc-a", self.now_ms, 0, sequence), self.now_ms)
        self.stock, self.wake_at_ms = decision.state, decision.wake_at_ms
        self.told += [each.nodes for each in decision.events if isinstance(each, PoolTargeted)]

    def wake(self) -> None:
        assert self.wake_at_ms is not None
        self.now_ms = max(self.now_ms, self.wake_at_ms)
        self.take(Woke(due_ms=self.wake_at_ms))


def test_the_most_that_were_drawn_within_one_boot_are_to_stand_warm_and_only_changes_are_told() -> None:
    bench = Bench()
    bench.draw(1)
    bench.now_ms += BOOT_MS
    bench.draw(1)
    bench.now_ms += MINUTE_MS
    bench.draw(2)

    assert bench.told == [1, 3]


def test_a_draw_that_is_heard_twice_counts_once() -> None:
    bench = Bench()
    bench.draw(2)
    bench.take(PoolDrawn(tier="t", region="r", nodes=2, warm=0), bench.sequence)

    assert bench.told == [2]


def test_after_an_hour_without_a_draw_none_are_wanted_and_nothing_wakes_it_any_more() -> None:
    bench = Bench()
    bench.draw(3)
    bench.now_ms += 30 * MINUTE_MS
    bench.draw(1)
    bench.wake()
    assert bench.now_ms == NOW + WINDOW_MS
    bench.wake()

    assert bench.told == [3, 1, 0]
    assert (bench.wake_at_ms, bench.stock.draws) == (None, ())


def test_draws_in_any_order_come_to_the_same() -> None:
    draws = [Draw(NOW + at * MINUTE_MS, nodes, at) for at, nodes in ((0, 1), (9, 2), (12, 1), (30, 2))]

    assert at_once(draws) == 3
    bench = Bench()
    for each in reversed(draws):
        bench.now_ms = each.at_ms
        bench.take(PoolDrawn(tier="t", region="r", nodes=each.nodes, warm=0), each.sequence)
    assert bench.told[-1] == 3
