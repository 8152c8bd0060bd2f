"""Usage on its way: batches with numbers without gaps, sent again until confirmed, in spite of bus and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from libs.common.bus.port import Ack, Delivery, Message
from libs.common.bus.streams import USAGE, message_of
from libs.common.clock import ManualClock
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event
from libs.common.events.route import UsageReported
from libs.common.events.tables import RouteEntry
from libs.common.events.usage import UsageConfirmed
from libs.common.ids import EventId
from libs.common.store.memory import MemoryStore
from services.router.core.outside import Sight
from services.router.core.serving import Row
from services.router.service import RouterService, build
from services.router.shell.engines.table import RouteTable
from services.router.shell.journal.memory import JournalFile, MemoryUsageJournal
from services.router.shell.ports import Ports
from services.router.shell.told.usage import BATCH_MAX, BATCH_MAX_BYTES, RESEND_MS, UsageLoop, UsageSender
from tests.unit.router.heard import requested
from tests.unit.router.test_journal import a_row


class Wire:
    """A bus that can be away, and may lose the answer to what it stored."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.is_away = False
        self.loses_answers = False

    def publish(self, messages: Sequence[Message]) -> int:
        if self.is_away:
            return 0
        self.messages += messages
        return 0 if self.loses_answers else len(messages)

    def reports(self) -> list[UsageReported]:
        found: list[Event] = [from_wire(each.headers, each.body).data for each in self.messages]
        return [each for each in found if isinstance(each, UsageReported)]


class Unseen:
    """An outside that nobody looks at: no route is published here."""

    def look(self, entry: RouteEntry) -> Sight:
        raise AssertionError(f"{entry.endpoint_id} was looked at")


def a_journal(count: int) -> MemoryUsageJournal:
    journal = MemoryUsageJournal("b1", JournalFile())
    for index in range(count):
        journal.finish(a_row(f"req-{index}"))
    return journal


def a_sender(journal: MemoryUsageJournal, clock: ManualClock, boot_id: str = "b1") -> UsageSender:
    return UsageSender(journal, clock, instance="router-0", boot_id=boot_id)


def test_batches_are_bounded_and_numbered_without_gaps() -> None:
    journal, wire = a_journal(2 * BATCH_MAX + 1), Wire()
    sender = a_sender(journal, ManualClock())

    counts = [sender.run(wire.publish) for _ in range(4)]

    assert counts == [BATCH_MAX, BATCH_MAX, 1, 0]
    assert [each.boot_seq for each in wire.reports()] == [1, 2, 3]
    assert {each.subject for each in wire.messages} == {"mr.v1.usage.router-0"}
    assert {each.stream for each in wire.messages} == {USAGE}
    assert max(len(each.body) for each in wire.messages) <= BATCH_MAX_BYTES


def test_what_ends_while_a_batch_is_on_its_way_waits_for_company_but_what_a_batch_had_no_room_for_does_not() -> None:
    journal, wire = a_journal(BATCH_MAX + 1), Wire()
    late = [a_row(f"late-{index}") for index in range(5)]

    async def publish(messages: Sequence[Message]) -> int:
        if late:
            journal.finish(late.pop())
        return wire.publish(messages)

    asyncio.run(UsageLoop(a_sender(journal, ManualClock()), publish, batch_s=0.0).send_due())

    assert [len(each.requests) for each in wire.reports()] == [BATCH_MAX, 2]
    assert journal.backlog() == BATCH_MAX + 3


def test_there_is_something_to_send_until_the_ledger_has_it() -> None:
    journal, wire = a_journal(1), Wire()
    sender = a_sender(journal, ManualClock())

    assert not sender.has_none(), "it is to be sent"
    sender.run(wire.publish)
    assert not sender.has_none(), "it may have to be sent again"
    journal.confirm(["req-0"])
    assert sender.has_none()


def test_a_batch_of_long_names_is_cut_to_what_the_stream_takes() -> None:
    journal, wire = MemoryUsageJournal("b1", JournalFile()), Wire()
    for index in range(BATCH_MAX):
        journal.finish(replace_names(a_row(f"{index}-{'r' * 120}"), "n" * 128))
    sender = a_sender(journal, ManualClock())

    counts = list(iter(lambda: sender.run(wire.publish), 0))

    assert sum(counts) == BATCH_MAX
    assert [each.boot_seq for each in wire.reports()] == list(range(1, len(counts) + 1))
    assert max(len(each.body) for each in wire.messages) <= BATCH_MAX_BYTES
    assert len({each.request_id for report in wire.reports() for each in report.requests}) == BATCH_MAX


def replace_names(row: Row, name: str) -> Row:
    return msgspec.structs.replace(row, tenant_id=name, project_id=name, endpoint_id=name, model=name, key_id=name)


def test_a_batch_that_the_bus_did_not_answer_for_is_the_same_message_again() -> None:
    journal, wire = a_journal(3), Wire()
    sender = a_sender(journal, ManualClock())
    wire.loses_answers = True
    assert sender.run(wire.publish) == 0
    journal.finish(a_row("req-late"))
    wire.loses_answers = False

    assert sender.run(wire.publish) == 3

    first, again = wire.messages
    assert first == again


def test_unconfirmed_rows_are_sent_again_under_a_new_id_and_number() -> None:
    journal, wire, clock = a_journal(1), Wire(), ManualClock()
    sender = a_sender(journal, clock)
    sender.run(wire.publish)
    clock.advance(RESEND_MS)
    assert sender.run(wire.publish) == 0
    clock.advance(1)

    assert sender.run(wire.publish) == 1

    first, again = wire.reports()
    assert (first.requests, first.boot_seq, again.boot_seq) == (again.requests, 1, 2)
    assert wire.messages[0].id != wire.messages[1].id


def test_a_bus_that_forgot_all_it_stored_costs_only_a_repetition() -> None:
    journal, wire, clock = a_journal(5), Wire(), ManualClock()
    sender = a_sender(journal, clock)
    sender.run(wire.publish)
    wire.messages.clear()
    clock.advance(RESEND_MS + 1)

    sender.run(wire.publish)

    assert {each.request_id for each in wire.reports()[0].requests} == {f"req-{index}" for index in range(5)}


def test_a_restart_between_sending_and_noting_it_sends_again_as_another_boot() -> None:
    journal, wire, clock = a_journal(1), Wire(), ManualClock()
    sender = a_sender(journal, clock)
    message = sender.next_batch()
    assert message is not None
    wire.publish([message])

    assert a_sender(journal, clock, "b2").run(wire.publish) == 1

    first, again = wire.reports()
    assert (first.boot_id, again.boot_id, again.boot_seq) == ("b1", "b2", 1)
    assert wire.messages[0].id != wire.messages[1].id


def a_service(journal: MemoryUsageJournal) -> RouterService:
    return build(Ports(MemoryStore(), ManualClock(), RouteTable(), Unseen(), journal, "router-0", "http://router/v1"))


def confirmation(instance: str, *request_ids: str) -> Delivery:
    data = UsageConfirmed(instance=instance, request_ids=request_ids)
    return Delivery(message_of(Envelope(EventId("c"), data, subject=instance, time_ms=1)), "router-evt")


def test_only_a_confirmation_for_this_router_empties_its_journal() -> None:
    journal = a_journal(3)
    service = a_service(journal)

    assert service.deliver(confirmation("router-9", "req-0", "req-1")) == Ack()
    assert journal.backlog() == 3
    assert service.deliver(confirmation("router-0", "req-0", "req-1", "req-unknown")) == Ack()
    assert service.deliver(confirmation("router-0", "req-0")) == Ack()
    assert list(journal.unconfirmed(sent_before_ms=0, limit=9)) == ["req-2"]


def test_other_events_still_reach_the_routes() -> None:
    service = a_service(a_journal(0))

    assert service.deliver(Delivery(message_of(requested()), "router-evt")) == Ack()
    assert len(service.runners[0].states()) == 1
