"""One suite for all adapters over HTTP: whatever goes wrong on the way, the receiver ends with exactly the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.events.usage import Meter as MeterName
from libs.common.events.usage import UsagePart
from libs.common.units import HOUR_MS, SECOND_MS
from services.metering.core.exports.receiver import Receiver
from services.metering.core.exports.state import Intent, Reason
from services.metering.shell.exporters.reply import Result
from services.metering.shell.exporting import Exporting
from tests.unit.metering.exports.books import SERVERS, Books, receiver_of, sender_to
from tests.unit.metering.exports.receivers import Billing, Fault
from tests.unit.metering.world import T0

# What the adapter can't tell from an event that may be there costs a second sending, never a second booking.
FAULTS = sorted(Fault, key=lambda each: each.name)


@dataclass
class Scene:
    """Metering, a receiver and an export between them."""

    system: str
    billing: Billing
    books: Books
    receiver: Receiver
    export: Exporting

    def restart(self) -> None:
        """The process ends and begins again; only the store is left."""
        self.export = self.books.export(self.receiver, sender_to(self.system, self.billing.url))


def scene_of(system: str, billing: Billing) -> Scene:
    """A scene with a fresh ledger."""
    books, receiver = Books(), receiver_of(system)
    billing.now_ms = books.clock.now_ms
    return Scene(system, billing, books, receiver, books.export(receiver, sender_to(system, billing.url)))


@pytest.fixture(params=sorted(SERVERS))
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Each system in turn."""
    with SERVERS[request.param]() as billing:
        yield scene_of(request.param, billing)


def tell_some(books: Books, count: int = 5) -> None:
    """A few windows of one endpoint."""
    for number in range(count):
        books.tell(number + 1, start_ms=T0 - (number + 1) * 10 * SECOND_MS)


def test_the_receiver_ends_with_exactly_the_ledger(scene: Scene) -> None:
    tell_some(scene.books, 250)
    scene.books.tell(7_000, meter=MeterName.GPU_MS, account="serving")

    scene.books.settle(scene.export)

    assert scene.billing.sums() == scene.books.truth()
    assert len(scene.billing.accepted) == 251
    assert scene.billing.largest <= min(100, scene.receiver.limits.batch_max)


def test_a_second_look_sends_nothing(scene: Scene) -> None:
    tell_some(scene.books)
    scene.books.settle(scene.export)
    calls = scene.billing.calls

    scene.export.backfill(0)
    scene.books.settle(scene.export)
    scene.restart()
    scene.books.settle(scene.export)

    assert scene.billing.calls == calls


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.name.lower())
@pytest.mark.parametrize("at", [0, 2])
def test_no_fault_loses_or_doubles_anything(scene: Scene, fault: Fault, at: int) -> None:
    tell_some(scene.books)
    scene.billing.faults.extend([None] * at)  # type: ignore[list-item]  # None: this call goes well.
    scene.billing.faults.extend([fault, fault])

    scene.books.settle(scene.export)

    assert scene.billing.sums() == scene.books.truth()
    assert scene.billing.doubled == []
    assert list(scene.export.parked()) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.name.lower())
def test_a_process_that_dies_after_a_fault_goes_on_where_it_was(scene: Scene, fault: Fault) -> None:
    tell_some(scene.books)
    scene.billing.faults.append(fault)
    for _ in range(4):
        scene.export.run()

    scene.restart()
    scene.books.settle(scene.export)

    assert scene.billing.sums() == scene.books.truth()


def test_a_busy_receiver_is_given_the_time_that_it_asks_for(scene: Scene) -> None:
    tell_some(scene.books)
    scene.billing.faults.append(Fault.BUSY)
    while not scene.billing.calls:
        scene.export.run()

    for _ in range(6):
        scene.books.clock.advance(SECOND_MS)
        scene.export.run()
    assert scene.billing.calls == 1
    scene.books.clock.advance(SECOND_MS)
    scene.export.run()

    assert scene.billing.calls == 2


def test_an_unreachable_receiver_leaves_nothing_in_doubt(scene: Scene) -> None:
    tell_some(scene.books)
    away = scene.books.export(scene.receiver, sender_to(scene.system, "http://127.0.0.1:9"))
    for _ in range(40):
        away.run()
        scene.books.clock.advance(2 * HOUR_MS)

    scene.restart()
    scene.books.settle(scene.export)

    assert scene.billing.sums() == scene.books.truth()
    assert list(scene.export.parked()) == []


def test_more_is_added_and_less_is_taken_back(scene: Scene) -> None:
    scene.books.tell(10)
    scene.books.settle(scene.export)
    for total in (15, 12, 20, 0, 3):
        scene.books.tell(total)
        scene.books.settle(scene.export)

        assert scene.billing.sums() == scene.books.truth()


def test_revisions_that_were_overtaken_never_leave(scene: Scene) -> None:
    for total in (10, 15, 12):
        scene.books.tell(total)

    scene.books.settle(scene.export)

    assert scene.billing.calls == 1
    assert scene.billing.sums() == scene.books.truth()


def test_what_was_sold_as_something_else_is_taken_back_and_added_anew(scene: Scene) -> None:
    scene.books.tell(10, tier="h100")
    scene.books.settle(scene.export)

    scene.books.tell(14, tier="b200")
    scene.books.settle(scene.export)

    assert scene.billing.sums() == scene.books.truth()
    assert sum(1 for each in scene.billing.accepted.values() if each[2]) in (1, 3)


def of_adapters(**quantities: int) -> tuple[UsagePart, ...]:
    return tuple(UsagePart(adapter=name.strip("_"), quantity=quantity) for name, quantity in quantities.items())


def test_parts_of_a_window_are_told_one_by_one_where_the_receiver_can_tell_them_apart(scene: Scene) -> None:
    scene.books.tell(10)  # By a build that knew no parts.
    scene.books.settle(scene.export)
    for parts in (of_adapters(_=4, fin=10), of_adapters(_=4, fin=0, law=1)):
        scene.books.tell(sum(each.quantity for each in parts), parts=parts)
        scene.restart()
        scene.books.settle(scene.export)

    assert scene.billing.sums() == scene.books.truth()
    if scene.receiver.limits.takes_parts:
        assert +scene.billing.by_adapter == {"": 4, "law": 1}


def test_one_bad_event_in_a_batch_is_parked_and_the_others_land(scene: Scene) -> None:
    tell_some(scene.books, 30)
    bad = scene.books.tell(99, tenant="stranger", start_ms=T0 - 7_000_000)
    scene.billing.unknown_customers.add("cus-stranger")

    scene.books.settle(scene.export)

    truth = scene.books.truth()
    assert {**scene.billing.sums(), scene.books.places[bad]: 99} == truth
    assert [(each.key, each.parked) for each in scene.export.parked()] == [(bad, Reason.REFUSED)]

    scene.billing.unknown_customers.clear()
    assert scene.export.redrive() == 1
    scene.books.settle(scene.export)
    assert scene.billing.sums() == truth


def test_what_may_have_arrived_before_is_not_forgotten_because_a_later_sending_did_not(scene: Scene) -> None:
    scene.billing.faults.extend([Fault.BROKEN_AFTER_ACCEPT, Fault.WRONG_KEY])
    scene.books.tell(1)
    while scene.billing.faults:
        scene.export.run()
        scene.books.clock.advance(SECOND_MS)

    scene.books.tell(0)
    scene.books.settle(scene.export)

    assert scene.billing.sums() == scene.books.truth() == {}


def test_two_processes_at_once_double_nothing(scene: Scene) -> None:
    other = scene.books.export(scene.receiver, sender_to(scene.system, scene.billing.url))
    send, race = scene.export._sender.send, [Fault.WRONG_KEY]

    def lose_the_race(intents: Sequence[Intent]) -> Sequence[Result]:
        while race:
            other.hear()
            other.send()  # The other one's arrives, but it dies before it can say so; ours does not.
            scene.billing.faults.append(race.pop())
        return send(intents)

    scene.export._sender.send = lose_the_race  # type: ignore[method-assign]
    other._end = lambda *_given: None  # type: ignore[method-assign]
    scene.books.tell(5)
    scene.export.run()
    scene.books.tell(9)
    scene.books.settle(scene.export)

    assert scene.billing.sums() == scene.books.truth()


@pytest.mark.parametrize("system", sorted(SERVERS))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    told=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50)), min_size=1, max_size=12),
    faults=st.lists(st.sampled_from([None, *(each for each in FAULTS if "TIMEOUT" not in each.name)]), max_size=12),
)
def test_any_history_under_any_faults_ends_as_the_ledger(
    system: str, told: list[tuple[int, int]], faults: list[Fault | None]
) -> None:
    with SERVERS[system]() as billing:
        scene = scene_of(system, billing)
        billing.faults.extend(faults)  # type: ignore[arg-type]
        for number, (window, total) in enumerate(told):
            scene.books.tell(total, start_ms=T0 - (window + 1) * 10 * SECOND_MS)
            scene.export.run()
            if number % 3 == 2:
                scene.restart()
        scene.books.settle(scene.export)

        assert billing.sums() == scene.books.truth()
