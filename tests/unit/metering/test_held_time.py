"""GPU time: every millisecond of every held node in exactly one account, whatever order the news comes in."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import Invalid
from libs.common.events.endpoint import EndpointFailed, Stage
from libs.common.events.envelope import Envelope
from libs.common.events.usage import Meter
from libs.common.units import DAY_MS, HOUR_MS, SECOND_MS
from services.metering.core.booking import KEEP_MS
from services.metering.core.timeline import Happening, held
from services.metering.core.windows import CATCH_UP_MAX, Windows
from services.metering.shell.audit import audit, meter_of
from tests.unit.metering.world import (
    ENDPOINT,
    T0,
    WINDOWS,
    World,
    deleted,
    envelope,
    joined,
    released,
    requested,
    staged,
)

SPAN_S = 60
STEP_MS = 500


@dataclass(frozen=True)
class Truth:
    """What really happened: who held how many GPUs when, and in which stage the endpoint was."""

    nodes: tuple[tuple[str, int, int, int | None], ...]  # Claim, GPUs, from and to in half seconds.
    ready: int
    deletion: int | None

    def events(self) -> list[Envelope]:
        """What the owners told of it, in order."""
        found = [
            requested(),
            staged(Stage.REQUESTED, since_ms=T0, sequence=1),
            staged(Stage.READY, since_ms=_ms(self.ready), sequence=2),
            staged(Stage.DEGRADED, since_ms=_ms(self.ready + 4), sequence=3),
        ]
        if self.deletion is not None:
            found += [
                deleted(at_ms=_ms(self.deletion)),
                staged(Stage.DRAINING, since_ms=_ms(self.deletion), sequence=4),
                staged(Stage.DELETING, since_ms=_ms(self.deletion + 1), sequence=5),
            ]
        for number, (claim, gpus, begin, end) in enumerate(self.nodes):
            found.append(joined(claim, at_ms=_ms(begin), sequence=2 * number + 1, gpu_count=gpus))
            if end is not None:
                found.append(released(claim, at_ms=_ms(end), sequence=2 * number + 2))
        return found

    def sums(self, until_ms: int) -> dict[tuple[str, int], int]:
        """GPU-milliseconds by account and window, counted step by step; of nodes still held up to a time."""
        found: dict[tuple[str, int], int] = {}
        for _claim, gpus, begin, end in self.nodes:
            last_ms = until_ms if end is None else _ms(end)
            for at_ms in range(_ms(begin), last_ms, STEP_MS):
                place = (self._account(at_ms), WINDOWS.start_of(at_ms))
                found[place] = found.get(place, 0) + gpus * STEP_MS
        return found

    def _account(self, at_ms: int) -> str:
        if self.deletion is not None and at_ms >= _ms(self.deletion):
            return "idle_owned" if at_ms >= _ms(self.deletion + 1) else "draining"
        return "serving" if at_ms >= _ms(self.ready) else "loading"


def _ms(half_seconds: int) -> int:
    return T0 + half_seconds * STEP_MS


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Up to three claims, each held up to twice, and a life of an endpoint."""
    nodes: list[tuple[str, int, int, int | None]] = []
    for claim in ("n1", "n2", "n3")[: draw(st.integers(0, 3))]:
        times = draw(st.lists(st.integers(0, 2 * SPAN_S), min_size=1, max_size=4, unique=True).map(sorted))
        gpus = draw(st.integers(1, 8))
        ends: list[int | None] = [*times[1::2]]
        nodes += [
            (claim, gpus, begin, end)
            for begin, end in zip(times[::2], [*ends, None] if len(times) % 2 else ends, strict=True)
        ]
    ready = draw(st.integers(1, SPAN_S))
    return Truth(tuple(nodes), ready, draw(st.none() | st.integers(ready + 5, 2 * SPAN_S)))


def every_correction_is_the_negative_of_what_it_names(world: World) -> None:
    """And no line is taken back twice."""
    lines = world.store.ledger
    corrections = {each.id: json.loads(each.data)["corrects"] for each in lines.values()}
    named = [(lines[id_], lines[corrects]) for id_, corrects in corrections.items() if corrects is not None]
    assert len({corrected.id for _line, corrected in named}) == len(named)
    for line, corrected in named:
        assert (line.account, line.at_ms, line.quantity) == (corrected.account, corrected.at_ms, -corrected.quantity)
        assert corrected.quantity >= 0
    assert all(corrections[each.id] for each in lines.values() if each.quantity < 0)


def gpu_lines(world: World) -> dict[tuple[str, int], int]:
    """The ledger's GPU time by account and window, without zeros."""
    found: dict[tuple[str, int], int] = {}
    for each in world.lines():
        place = (each.account.rsplit("/", 1)[1], WINDOWS.start_of(each.at_ms))
        found[place] = found.get(place, 0) + each.quantity
    return {place: quantity for place, quantity in found.items() if quantity}


@settings(max_examples=30, deadline=None)
@given(truth=truths(), data=st.data())
def test_any_order_and_repetition_of_the_same_events_gives_the_same_sums(truth: Truth, data: st.DataObject) -> None:
    world = World()
    events = truth.events()
    order = data.draw(st.permutations([*events, *data.draw(st.lists(st.sampled_from(events), max_size=6))]))
    pauses = data.draw(st.lists(st.integers(0, 12), min_size=len(order), max_size=len(order)))

    for pause_s, event in zip(pauses, order, strict=True):
        world.pass_time(pause_s)
        world.hear(event)
    world.clock.advance(3 * SPAN_S * SECOND_MS)
    world.rest()

    until_ms = WINDOWS.closed_until(world.clock.now_ms())
    assert gpu_lines(world) == truth.sums(until_ms)
    every_correction_is_the_negative_of_what_it_names(world)
    held_ms = sum(g * ((until_ms if e is None else _ms(e)) - _ms(b)) for _c, g, b, e in truth.nodes)
    assert sum(each.quantity for each in world.lines()) == held_ms
    assert sum(each.quantity for each in world.lines(Meter.NODE_MS)) == sum(
        (until_ms if e is None else _ms(e)) - _ms(b) for _c, _g, b, e in truth.nodes
    )
    world.pass_time(15)
    until_ms = WINDOWS.closed_until(world.clock.now_ms())
    told = {(account, start_ms): quantity for (_meter, account, start_ms), quantity in world.bill().items()}
    assert {place: each for place, each in told.items() if place[1] < until_ms - 2 * WINDOWS.size_ms} == {
        place: each for place, each in truth.sums(until_ms).items() if place[1] < until_ms - 2 * WINDOWS.size_ms
    }


def test_a_held_node_is_booked_window_by_window_as_time_passes() -> None:
    world = World()
    world.hear(requested(), joined("n1", at_ms=T0, sequence=1))
    world.pass_time(5)
    world.hear(staged(Stage.READY, since_ms=T0 + 5000, sequence=2))

    world.pass_time(6)
    early = world.sums()
    world.pass_time(1)

    # Loading ended at a known time, so it is booked at once; serving goes on, so it waits for the window.
    assert early == {("loading", "gpu_ms"): 40_000}
    assert world.sums() == {("loading", "gpu_ms"): 40_000, ("serving", "gpu_ms"): 40_000}
    world.pass_time(20)
    assert world.sums()["serving", "gpu_ms"] == 200_000


def test_the_open_rest_is_booked_when_the_node_goes() -> None:
    world = World()
    world.hear(requested(), staged(Stage.READY, since_ms=T0, sequence=2), joined("n1", at_ms=T0, sequence=1))
    world.pass_time(13)

    world.hear(released("n1", at_ms=T0 + 12_345, sequence=2))

    assert world.sums() == {("serving", "gpu_ms"): 8 * 12_345}
    rows = len(world.store.rows)
    world.pass_time(60)
    assert len(world.store.rows) - rows < 20  # The two windows are told; then nothing moves any more.
    assert world.service.tick().woken == 0


def test_time_booked_too_far_is_taken_back_and_told_again_as_a_second_revision() -> None:
    world = World()
    world.hear(requested(), staged(Stage.READY, since_ms=T0, sequence=2), joined("n1", at_ms=T0, sequence=1))
    world.pass_time(40)

    world.hear(released("n1", at_ms=T0 + 4000, sequence=2))
    world.pass_time(10)

    assert world.sums() == {("serving", "gpu_ms"): 32_000}
    assert world.bill() == {("gpu_ms", "serving", T0): 32_000}
    first = [each for each in world.windows_told() if each.window_start_ms == T0]
    assert [(each.revision, each.quantity) for each in first] == [(1, 80_000), (2, 32_000)]
    assert sum(each.quantity < 0 for each in world.lines()) == 3
    every_correction_is_the_negative_of_what_it_names(world)


def test_a_line_of_which_only_a_part_was_wrong_is_taken_back_whole_and_its_rest_booked_anew() -> None:
    world = World()
    world.hear(requested(), joined("n1", at_ms=T0, sequence=1))
    world.pass_time(15)

    world.hear(staged(Stage.READY, since_ms=T0 + 7_000, sequence=2))

    lines = {each.id: each.quantity for each in world.lines()}
    first = f"{ENDPOINT}/n1/0/{T0}/gpu_ms"
    assert lines == {
        f"held/{first}": 80_000,
        f"back/{first}": -80_000,
        f"held/{ENDPOINT}/n1/1/{T0}/gpu_ms": 56_000,
        f"held/{ENDPOINT}/n1/1/{T0 + 7_000}/gpu_ms": 24_000,
    }
    every_correction_is_the_negative_of_what_it_names(world)


def test_a_node_of_an_endpoint_that_nobody_asked_for_is_stranded_until_somebody_did() -> None:
    world = World()
    world.hear(joined("n1", at_ms=T0, sequence=1))
    world.pass_time(25)
    assert world.sums() == {(f"!unowned/-/{ENDPOINT}/stranded", "gpu_ms"): 160_000}
    assert world.windows_told() == []
    assert audit(world.store, windows=WINDOWS) == ()

    world.hear(requested())

    assert world.sums() == {
        (f"!unowned/-/{ENDPOINT}/stranded", "gpu_ms"): 0,
        ("loading", "gpu_ms"): 160_000,
    }
    every_correction_is_the_negative_of_what_it_names(world)
    world.pass_time(20)
    assert {each.tenant_id for each in world.windows_told()} == {"acme"}
    assert audit(world.store, windows=WINDOWS) == ()


def test_a_node_without_gpus_has_node_time_and_no_line_of_gpu_time() -> None:
    world = World()
    world.hear(requested(), joined("n1", at_ms=T0, sequence=1, gpu_count=0), released("n1", at_ms=T0 + 500, sequence=2))
    world.pass_time(2)

    assert world.lines() == []
    assert [each.quantity for each in world.lines(Meter.NODE_MS)] == [500]


def test_a_node_that_stays_after_streams_ended_is_idle_and_after_the_end_stranded() -> None:
    world = World()
    world.hear(
        requested(),
        joined("n1", at_ms=T0, sequence=1),
        staged(Stage.READY, since_ms=T0 + 1_000, sequence=2),
        deleted(at_ms=T0 + 3_000),
        staged(Stage.DRAINING, since_ms=T0 + 3_000, sequence=51),
        staged(Stage.DELETING, since_ms=T0 + 5_000, sequence=52),
        staged(Stage.DELETED, since_ms=T0 + 6_000, sequence=53),
        released("n1", at_ms=T0 + 9_500, sequence=2),
    )
    world.pass_time(15)

    assert {account: quantity // 8 for (account, _meter), quantity in world.sums().items()} == {
        "loading": 1_000,
        "serving": 2_000,
        "draining": 2_000,
        "idle_owned": 1_000,
        "stranded": 3_500,
    }


def test_a_failed_endpoint_drains() -> None:
    world = World()
    failed = EndpointFailed(tenant_id="acme", project_id="main", reason="r", message="m")

    world.hear(
        requested(),
        joined("n1", at_ms=T0, sequence=1),
        envelope(failed, at_ms=T0 + 3000, sequence=9),
        released("n1", at_ms=T0 + 5000, sequence=2),
    )
    world.pass_time(12)

    assert world.sums() == {("loading", "gpu_ms"): 24_000, ("draining", "gpu_ms"): 16_000}


def test_after_days_of_outage_held_time_is_booked_in_bounded_commits() -> None:
    world = World()
    world.hear(requested(), staged(Stage.READY, since_ms=T0, sequence=2), joined("n1", at_ms=T0, sequence=1))
    per_commit: list[int] = []
    lines = 0

    def count(moment: str) -> None:
        nonlocal lines
        if moment == "after":
            per_commit.append(len(world.store.ledger) - lines)
            lines = len(world.store.ledger)

    world.moment = count
    world.clock.advance(8 * HOUR_MS)
    for _ in range(10):
        world.clock.advance(1)
        world.service.tick()

    assert max(per_commit) <= 2 * (CATCH_UP_MAX + 1)  # GPU time and node time.
    assert world.sums() == {("serving", "gpu_ms"): 8 * (WINDOWS.closed_until(world.clock.now_ms()) - T0)}


def test_a_clock_that_steps_back_takes_nothing_back_and_stops_nothing() -> None:
    world = World()
    world.hear(requested(), staged(Stage.READY, since_ms=T0, sequence=2), joined("n1", at_ms=T0, sequence=1))
    world.pass_time(30)
    before = world.sums()
    lines = len(world.store.ledger)

    world.clock._now_ms -= 20 * SECOND_MS
    world.hear(staged(Stage.DEGRADED, since_ms=T0 + 29_000, sequence=3))
    world.rest()

    assert len(world.store.ledger) == lines
    assert world.sums() == before
    world.pass_time(40)
    assert world.sums()["serving", "gpu_ms"] == 8 * (WINDOWS.closed_until(world.clock.now_ms()) - T0)


def test_intervals_of_one_node_never_overlap_even_if_its_clock_stepped_back() -> None:
    intervals = held([Happening(1, 10, 8), Happening(2, 20, None), Happening(3, 15, 8), Happening(4, 30, None)])

    assert [(each.from_ms, each.to_ms) for each in intervals] == [(10, 20), (20, 30)]


@pytest.mark.parametrize(
    "event",
    [
        joined("n1", at_ms=T0, sequence=1, gpu_count=-1),
        joined("n1", at_ms=T0, sequence=1, gpu_count=100_000),
        envelope(joined("n1", at_ms=0, sequence=1).data, at_ms=T0),
        envelope(joined("n1", at_ms=T0 + DAY_MS, sequence=1).data, at_ms=T0),
    ],
)
def test_a_node_that_cannot_be_is_refused(event: Envelope) -> None:
    world = World()

    with pytest.raises(Invalid):
        world.hear(event)

    assert world.store.records == {}


def test_a_long_life_is_forgotten_in_the_record_and_kept_in_the_ledger() -> None:
    world = World(Windows(size_ms=HOUR_MS, settle_ms=2000))
    world.hear(requested(), staged(Stage.READY, since_ms=T0, sequence=2))
    for day in range(60):
        at_ms = T0 + day * DAY_MS
        world.clock._now_ms = at_ms + 2 * HOUR_MS
        world.hear(joined("n1", at_ms=at_ms, sequence=2 * day + 1))
        world.hear(released("n1", at_ms=at_ms + HOUR_MS, sequence=2 * day + 2))
        world.hear(joined(f"once-{day}", at_ms=at_ms, sequence=1))
        world.hear(released(f"once-{day}", at_ms=at_ms + HOUR_MS, sequence=2))
        world.rest()
    before = world.sums()

    world.hear(envelope(joined("once-0", at_ms=T0, sequence=1).data, at_ms=T0 + 1, sequence=1))
    world.pass_time(10)

    assert world.sums() == before == {("serving", "gpu_ms"): 2 * 60 * 8 * HOUR_MS}
    meter = meter_of(world.store, ENDPOINT)
    assert meter is not None
    assert len(meter.nodes) <= KEEP_MS // DAY_MS + 2
    assert max(len(each.happenings) for each in meter.nodes) <= 2 * (KEEP_MS // DAY_MS + 2)
    assert audit(world.store, windows=world.windows) == ()
