"""Requests: each billed once, however often and by whom it is reported; what is wrong with one stops no other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.bus.port import Ack, Dead, Delivery
from libs.common.bus.streams import message_of
from libs.common.errors import Invalid
from libs.common.events.event import Owner
from libs.common.events.route import RequestUsage
from libs.common.events.usage import StreamsCut
from libs.common.units import DAY_MS
from services.metering.core.boots import BOOTS_MAX, Boots
from services.metering.core.intake import TOKENS_MAX
from services.metering.shell.audit import audit, producers
from tests.unit.metering.world import ENDPOINT, ROOT, T0, WINDOWS, World, batch, requested, usage


def test_a_batch_becomes_lines_and_is_confirmed_in_the_same_commit() -> None:
    world = World()
    commits: list[str] = []
    world.moment = commits.append

    world.hear(batch([usage("r1"), usage("r2", completion_tokens=7)]))

    assert world.sums() == {("", "requests"): 2, ("", "prompt_tokens"): 20, ("", "completion_tokens"): 12}
    (confirmed,) = world.confirmed()
    assert (confirmed.instance, confirmed.request_ids) == ("router-1", ("r1", "r2"))
    assert commits.count("after") == 1  # The lines, the confirmation, and the mark on the meter.


def test_a_batch_of_several_endpoints_is_one_commit_and_each_meter_remembers_its_own_part() -> None:
    world = World()
    commits: list[str] = []
    world.hear(requested(), requested(endpoint="ep-two", tenant="globex"))
    world.moment = commits.append

    world.hear(batch([usage("r1"), usage("r2", endpoint="ep-two", tenant="globex"), usage("r3")]))

    assert commits.count("after") == 1
    assert [row.cause_type for row in world.store.rows[-3:]] == ["usage.reported.v1", *["metering.served.v1"] * 2]
    assert b"globex" not in next(row.cause for row in world.store.rows[::-1] if row.key == ENDPOINT)
    world.pass_time(20)
    told = {(each.endpoint_id, each.quantity) for each in world.windows_told() if each.meter == "requests"}
    assert told == {(ENDPOINT, 2), ("ep-two", 1)}


def test_a_batch_delivered_three_times_is_billed_once() -> None:
    world = World()
    world.hear(requested())

    for _ in range(3):
        message = message_of(batch([usage("r1")]))
        assert isinstance(world.service.deliver(Delivery(message, "metering-usage")), Ack)

    assert world.sums() == {("", "requests"): 1, ("", "prompt_tokens"): 10, ("", "completion_tokens"): 5}
    assert len(world.confirmed()) == 1


def test_requests_sent_again_in_a_new_batch_are_billed_once_and_confirmed_again() -> None:
    world = World()

    world.hear(batch([usage("r1")]), batch([usage("r1"), usage("r2")], boot_seq=2))

    assert world.sums()["", "requests"] == 2
    assert [each.request_ids for each in world.confirmed()] == [("r1",), ("r1", "r2")]


def test_a_request_that_another_router_recovered_is_billed_once() -> None:
    world = World()

    world.hear(
        batch([usage("r1"), usage("r2")], instance="router-1"),
        batch([usage("r2"), usage("r3")], instance="router-2", boot_id="boot-x"),
    )

    assert world.sums()["", "requests"] == 3
    assert {each.instance for each in world.confirmed()} == {"router-1", "router-2"}


def test_other_content_for_a_known_request_is_parked_and_the_rest_of_its_batch_lands() -> None:
    world = World()
    world.hear(batch([usage("r1", completion_tokens=5)]))

    world.hear(batch([usage("r1", completion_tokens=500), usage("r2")], boot_seq=2))

    assert world.sums() == {
        ("", "requests"): 2,
        ("", "prompt_tokens"): 20,
        ("", "completion_tokens"): 10,
        ("!parked/conflict", "requests"): 1,
    }
    (parked,) = world.store.entries(account="!parked/conflict")
    assert json.loads(parked.data)["completion_tokens"] == 500
    assert world.confirmed()[1].request_ids == ("r1", "r2")


def test_a_conflict_where_only_the_unknown_prompt_count_differs_is_parked_whole() -> None:
    world = World()
    world.hear(batch([usage("r1", prompt_tokens=None)]))

    world.hear(batch([usage("r1", prompt_tokens=10)], boot_seq=2))

    assert world.sums()["", "prompt_tokens"] == 0
    assert world.sums()["!parked/conflict", "requests"] == 1


def test_an_unknown_prompt_count_stays_unknown_in_the_line() -> None:
    world = World()

    world.hear(batch([usage("r1", prompt_tokens=None)]))

    (line,) = (each for each in world.store.entries(account=ROOT) if each.meter == "prompt_tokens")
    assert (line.quantity, json.loads(line.data)["prompt_tokens"]) == (0, None)


@pytest.mark.parametrize(
    ("bad", "flaw"),
    [
        (usage("r/1"), "malformed_id"),
        (usage("", completion_tokens=1), "malformed_id"),
        (usage("r1", tenant="!parked"), "malformed_id"),
        (usage("r1", completion_tokens=-1), "negative"),
        (usage("r1", prompt_tokens=TOKENS_MAX + 1), "too_large"),
        (usage("r1", ended_ms=1 << 80), "too_large"),
        (usage("r1", ended_ms=T0 - 2000), "ended_before_started"),
        (usage("r1", ended_ms=T0 + DAY_MS), "future"),
    ],
)
def test_what_cannot_be_true_is_parked_with_its_reason_and_the_rest_lands(bad: RequestUsage, flaw: str) -> None:
    world = World()
    world.hear(requested())

    world.hear(batch([bad, usage("good")]))
    world.hear(batch([bad, usage("good")], boot_seq=2))
    world.pass_time(30)

    assert world.sums()["", "requests"] == 1
    assert world.sums()[f"!parked/{flaw}", "requests"] == 1
    assert [each.quantity for each in world.windows_told() if each.meter == "requests"] == [1]
    assert audit(world.store, windows=WINDOWS) == ()


def test_a_batch_that_stands_under_another_instance_is_a_dead_letter() -> None:
    world = World()
    foreign = batch([usage("r1")], instance="router-1")
    message = message_of(foreign)
    headers = {**message.headers, "ce-subject": "router-2"}

    answer = world.service.deliver(
        Delivery(type(message)(message.id, message.stream, message.subject, message.body, headers), "metering-usage")
    )

    assert isinstance(answer, Dead)
    assert world.store.ledger == {}


def test_the_service_is_metering() -> None:
    assert World().service.name is Owner.METERING


@given(st.permutations([1, 2, 3, 4, 5, 6, 3, 1]))
def test_batches_in_any_order_and_again_leave_no_gap(order: list[int]) -> None:
    boots = Boots()
    for seq in order:
        boots = boots.hear("b", seq, told_ms=T0)

    assert boots.missing_now == 0
    assert boots.boots[0].runs == ((1, 6),)


@given(st.sets(st.integers(1, 40), min_size=1))
def test_missing_batches_are_the_numbers_below_the_highest_that_never_came(came: set[int]) -> None:
    boots = Boots()
    for seq in came:
        boots = boots.hear("b", seq, told_ms=T0)

    assert boots.missing_now == max(came) - len(came)


def test_a_gap_of_an_ended_boot_is_told_apart_from_one_of_the_present_boot() -> None:
    boots = Boots().hear("old", 3, told_ms=T0).hear("new", 1, told_ms=T0 + 1).hear("new", 3, told_ms=T0 + 2)

    assert (boots.missing_before, boots.missing_now) == (2, 1)


def test_a_crash_loop_of_a_router_does_not_grow_its_record_for_ever() -> None:
    boots = Boots()
    for number in range(BOOTS_MAX * 3):
        boots = boots.hear(f"boot-{number}", 1, told_ms=T0 + number)
    again = boots.hear("boot-0", 7, told_ms=T0)

    assert len(boots.boots) == BOOTS_MAX
    assert again == boots


def test_a_producer_remembers_which_batches_came() -> None:
    world = World()

    world.hear(batch([usage("r1")], boot_seq=1), batch([usage("r2")], boot_seq=3))

    (producer,) = producers(world.store)
    assert (producer.requests, producer.boots.missing_now) == (2, 1)


def test_windows_of_another_size_over_an_old_ledger_are_refused() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(20)
    world.windows = type(WINDOWS)(size_ms=60_000, settle_ms=2000)

    with pytest.raises(Invalid, match="10 s long, not 60 s"):
        world.start()


def test_answers_that_were_cut_at_a_drain_deadline_are_told_of_their_endpoint_by_id() -> None:
    world = World()
    world.hear(requested(), requested(endpoint="ep-two", tenant="globex"))
    cut = usage("r2", completion_tokens=7).model_copy(update={"finish": "drain_cut"})

    world.hear(batch([usage("r1"), cut, usage("r3", endpoint="ep-two", tenant="globex")]))

    (told,) = [each for each in world.told() if isinstance(each, StreamsCut)]
    assert [(each.request_id, each.completion_tokens, each.generation) for each in told.streams] == [("r2", 7, 1)]
    (row,) = [each for each in world.store.outbox.values() if each.headers.get("ce-type") == "usage.streams_cut.v1"]
    assert row.headers["ce-subject"] == ENDPOINT
