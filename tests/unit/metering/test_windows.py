"""Windows: what is told adds up to the ledger, late entries tell again, and a crash anywhere changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.bus.port import Delivery
from libs.common.bus.streams import message_of
from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.route import UsageReported
from libs.common.events.usage import Meter as MeterName
from libs.common.events.usage import UsageRecorded
from libs.common.store.port import Entry
from libs.common.units import DAY_MS
from services.metering.core.decide import LedgerRead
from services.metering.core.state import Meter, Window
from services.metering.core.telling import Totalled, decide_window
from services.metering.shell.audit import audit
from tests.unit.metering.world import (
    ENDPOINT,
    ROOT,
    T0,
    WINDOWS,
    Crash,
    World,
    attempt,
    batch,
    envelope,
    life,
    live,
    requested,
    staged,
    usage,
)


def test_a_window_is_told_once_it_closed_and_settled() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1"), usage("r2")]))

    world.pass_time(11)
    assert world.windows_told() == []
    world.pass_time(1)

    assert world.bill() == {
        ("requests", "", T0): 2,
        ("prompt_tokens", "", T0): 20,
        ("completion_tokens", "", T0): 10,
    }
    told = world.windows_told()[0]
    assert (told.tenant_id, told.endpoint_id, told.model, told.tier, told.region) == (
        "acme",
        ENDPOINT,
        "millrace/ngram-1",
        "h100-dedicated",
        "eu-1",
    )
    assert (told.window_start_ms, told.window_end_ms, told.revision) == (T0, T0 + 10_000, 1)


def test_what_came_late_is_told_as_a_second_revision_with_the_new_total() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(20)

    world.hear(batch([usage("r2"), usage("r1")], boot_seq=2))
    world.pass_time(5)

    requests = [each for each in world.windows_told() if each.meter == "requests"]
    assert [(each.revision, each.quantity) for each in requests] == [(1, 1), (2, 2)]


def test_usage_that_comes_a_day_late_is_told_as_the_next_revision_of_its_own_window() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(20)
    world.clock.advance(DAY_MS)

    world.hear(batch([usage("r2"), usage("r1")], boot_seq=2, at_ms=T0 + DAY_MS))
    world.pass_time(5)

    requests = [each for each in world.windows_told() if each.meter == "requests"]
    assert [(each.window_start_ms, each.revision, each.quantity) for each in requests] == [(T0, 1, 1), (T0, 2, 2)]
    assert audit(world.store, windows=WINDOWS) == ()


def test_what_came_again_tells_nothing() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(20)
    told = len(world.told())

    world.hear(batch([usage("r1")], boot_seq=2))
    world.pass_time(20)

    assert len(world.windows_told()) == 3
    assert len(world.told()) == told + 1  # The confirmation.


def test_a_request_belongs_to_the_window_in_which_it_ended() -> None:
    world = World()

    world.hear(requested(), batch([usage("r1", ended_ms=T0 + 9_999), usage("r2", ended_ms=T0 + 10_000)]))
    world.pass_time(30)

    assert {place: each for place, each in world.bill().items() if place[0] == "requests"} == {
        ("requests", "", T0): 1,
        ("requests", "", T0 + 10_000): 1,
    }


def test_the_same_windows_told_by_another_life_of_the_ledger_have_the_same_ids() -> None:
    lives = [World(), World()]
    for number, world in enumerate(lives):
        world.hear(requested(), batch([usage("r1")], boot_seq=number + 1))
        world.pass_time(20 + number)

    ids = [{each.id for each in world.store.outbox.values() if "usage-recorded" in each.subject} for world in lives]

    assert ids[0] == ids[1] != set()


def test_an_endpoint_at_rest_writes_nothing() -> None:
    world = World()
    world.hear(requested(), staged(Stage.READY, since_ms=T0, sequence=2), batch([usage("r1")]))
    world.pass_time(30)
    rows = len(world.store.rows)

    world.pass_time(600)

    assert len(world.store.rows) == rows


def test_a_crash_between_any_two_steps_leaves_the_same_bill() -> None:
    calm = World()
    commits = 0

    def count(_moment: str) -> None:
        nonlocal commits
        commits += 1

    calm.moment = count
    live(calm, lambda world, event: world.hear(event))
    assert audit(calm.store, windows=WINDOWS) == ()
    assert commits > 40

    for fatal in range(commits):
        world = World()
        world.moment = dying_at(fatal)
        live(world, lambda world, event: attempt(world, lambda: world.hear(event)))

        assert world.sums() == calm.sums(), fatal
        assert world.bill() == calm.bill(), fatal
        assert audit(world.store, windows=WINDOWS) == (), fatal
        seen = [(each.meter, each.account, each.window_start_ms, each.revision) for each in world.windows_told()]
        assert len(seen) == len(set(seen)), fatal


def dying_at(fatal: int) -> Callable[[str], None]:
    """Let the process die once, at the given moment: before or after a commit."""
    moments = iter(range(1 << 30))

    def moment(_moment: str) -> None:
        if next(moments) == fatal:
            raise Crash

    return moment


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 40), st.booleans()), max_size=25))
def test_usage_in_any_order_with_repeats_and_crashes_is_told_exactly(
    reports: list[tuple[int, int, bool]],
) -> None:
    world = World()
    world.hear(requested())
    ended = {number: at_s for number, at_s, _again in reversed(reports)}
    for seq, (number, _at_s, dies) in enumerate(reports, start=1):
        event = batch([usage(f"r{number}", ended_ms=T0 + ended[number] * 1000)], boot_seq=seq)
        if dies:
            world.moment = dying_at(1)  # After the producer's commit, before the meter's mark.
        for _ in range(2):
            attempt(world, lambda event=event: world.hear(event))  # type: ignore[misc]
        world.moment = lambda _moment: None
        world.pass_time(2)
    world.pass_time(60)

    wanted: dict[int, int] = {}
    for at_s in ended.values():
        wanted[T0 + at_s // 10 * 10_000] = wanted.get(T0 + at_s // 10 * 10_000, 0) + 1
    assert {start: each for (meter, _a, start), each in world.bill().items() if meter == "requests"} == wanted
    assert audit(world.store, windows=WINDOWS) == ()


def test_a_full_replay_of_the_bus_adds_nothing() -> None:
    world = World()
    live(world, lambda world, event: world.hear(event))
    ledger, told = dict(world.store.ledger), len(world.windows_told())

    for number, each in enumerate(life()):
        message = message_of(replace(each, id=type(each.id)(f"again-{number}")))
        world.service.deliver(Delivery(message, "metering-evt"))
    world.pass_time(60)

    assert world.store.ledger == ledger
    assert len(world.windows_told()) == told


def test_what_metering_tells_reads_back_from_the_wire() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(20)

    for each in world.store.outbox.values():
        told = from_wire(each.headers, each.body)
        assert told.subject == (ENDPOINT if isinstance(told.data, UsageRecorded) else "router-1")
        assert told.sequence > 0


def test_a_batch_of_nothing_is_counted_and_confirms_nothing() -> None:
    world = World()

    world.hear(batch([]))

    assert isinstance(batch([]).data, UsageReported)
    assert world.told() == []


def test_what_enters_between_the_look_and_the_note_is_looked_at_again() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(20)
    teller = world.service.reconcilers[0]._world
    observe = teller.observe
    late = [batch([usage("r3")], boot_seq=3)]

    def observe_then_hear(state: Meter) -> object:
        seen = observe(state)
        if isinstance(seen, LedgerRead) and seen.agreed and late:
            world.hear(late.pop())  # Another thread's batch, after the ledger was read.
        return seen

    teller.observe = observe_then_hear  # type: ignore[method-assign]
    world.hear(batch([usage("r2")], boot_seq=2))
    world.pass_time(20)

    assert late == []
    assert world.bill()["requests", "", T0] == 3
    assert audit(world.store, windows=WINDOWS) == ()


def test_a_window_that_changes_at_every_look_is_told_ever_less_often_and_at_last_as_it_is() -> None:
    world = World()
    world.hear(requested(), batch([usage("r-0")]))
    teller = world.service.reconcilers[0]._world
    observe, looks = teller.observe, list[int]()

    def observe_then_hear(state: Meter) -> object:
        seen = observe(state)
        if state.due and world.clock.now_ms() < T0 + 200_000:  # As long as there is a backlog.
            looks.append(world.clock.now_ms() - T0)
            world.hear(batch([usage(f"r-{len(looks)}")], boot_seq=1 + len(looks)))
        return seen

    teller.observe = observe_then_hear  # type: ignore[method-assign]
    world.pass_time(200)
    assert looks == [12_000, 12_000, 14_000, 18_000, 26_000, 42_000, 74_000, 106_000, 138_000, 170_000]

    world.pass_time(60)
    assert world.bill()["requests", "", T0] == 1 + len(looks)
    assert audit(world.store, windows=WINDOWS) == ()


def test_windows_that_follow_each_other_are_read_together_and_others_alone() -> None:
    starts = [0, 10_000, 30_000, *range(50_000, 150_000, 10_000)]

    runs = list(WINDOWS.runs(starts))

    assert runs == [(0, 20_000), (30_000, 40_000), (50_000, 130_000), (130_000, 150_000)]
    assert list(WINDOWS.runs([])) == []


def test_windows_that_got_entries_late_are_told_together_on_multiples_of_the_time_to_settle() -> None:
    told_at = [WINDOWS.told_at(T0, now_ms=T0 + late_ms) for late_ms in (0, 10_001, 11_999, 12_000, 12_001)]

    assert [each - T0 for each in told_at] == [12_000, 14_000, 14_000, 14_000, 16_000]


def test_a_window_that_cannot_be_told_keeps_none_before_it_from_being_told() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1"), usage("r2", ended_ms=T0 + 12_000)]))
    with world.store.transaction() as unit:
        unit.enter(Entry("back/too-much", ROOT, "requests", -5, T0 + 12_000, b"{}"))

    world.pass_time(40)

    assert world.bill()["requests", "", T0] == 1
    assert ("requests", "", T0 + 10_000) not in world.bill()


def test_a_window_takes_only_the_revision_after_its_own() -> None:
    first = totalled(quantity=10, revision=1)
    told = decide_window(Window("w"), first, T0)
    assert [told.state.quantity, told.state.revision, len(told.events)] == [10, 1, 1]

    for stale in (
        totalled(quantity=9, revision=1),
        totalled(quantity=9, revision=3),
        totalled(quantity=10, revision=2),
    ):
        again = decide_window(told.state, stale, T0)
        assert (again.state, again.events) == (told.state, ())


def totalled(*, quantity: int, revision: int) -> Envelope:
    """What the reconciler found a window to add up to."""
    data = Totalled(
        key="w",
        root="acme/main/ep-one",
        tenant_id="acme",
        project_id="main",
        endpoint_id=ENDPOINT,
        generation=1,
        model="m",
        tier="t",
        region="r",
        meter=MeterName.REQUESTS,
        account="",
        start_ms=T0,
        end_ms=T0 + 10_000,
        quantity=quantity,
        revision=revision,
    )
    return envelope(data, subject="w")
