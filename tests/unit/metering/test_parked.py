"""What can't be billed is kept with its reason and stops nothing else; when the reason is gone, it is driven again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from libs.common.bus.port import Ack, Answer, Dead, Delivery, Message
from libs.common.bus.streams import message_of
from libs.common.events.envelope import Envelope
from libs.common.units import DAY_MS, MINUTE_MS
from services.metering.core.accounts import Flaw
from services.metering.core.intake import TOKENS_MAX
from services.metering.shell.audit import audit
from services.metering.shell.redriving import Outcome, Redriving
from tests.unit.metering.world import ENDPOINT, ROOT, T0, WINDOWS, Crash, World, batch, requested, usage

GOOD = usage("good")


def redriving(world: World) -> Redriving:
    return Redriving(world.service, world.store, world.clock)


def requests_in(world: World, account: str) -> int:
    return sum(
        each.quantity for each in world.store.ledger.values() if (each.account, each.meter) == (account, "requests")
    )


def delivered(world: World, envelope: Envelope, *garbage: object, **changes: object) -> Answer:
    """The batch as a broken router would have sent it, with garbage among its requests."""
    message = message_of(envelope)
    document: dict[str, Any] = {**json.loads(message.body), **changes}
    if isinstance(document["requests"], list):
        document["requests"][1:1] = garbage
    body = json.dumps(document).encode()
    return world.service.deliver(
        Delivery(Message(message.id, message.stream, message.subject, body, message.headers), "c")
    )


@pytest.mark.parametrize(
    ("bad", "flaw"),
    [
        (usage("r/1"), Flaw.MALFORMED_ID),
        (usage("r1", completion_tokens=-1), Flaw.NEGATIVE),
        (usage("r1", prompt_tokens=TOKENS_MAX + 1), Flaw.TOO_LARGE),
        (usage("r1", completion_tokens=1 << 70), Flaw.TOO_LARGE),
        (usage("r1", started_ms=T0 + 9_000), Flaw.ENDED_BEFORE_STARTED),
        (usage("r1", ended_ms=T0 + DAY_MS), Flaw.FUTURE),
        (usage("r1", started_ms=0, ended_ms=1), Flaw.TOO_OLD),
        (usage("r1", tenant="bolt"), Flaw.FOREIGN),
        (usage("good", completion_tokens=6), Flaw.CONFLICT),
    ],
    ids=str,
)
def test_a_bad_request_is_parked_with_its_reason_and_the_good_ones_of_its_batch_land(bad: Any, flaw: Flaw) -> None:
    world = World()
    world.hear(requested(), batch([GOOD, bad, usage("other")]))
    world.pass_time(30)

    assert requests_in(world, f"!parked/{flaw}") == 1
    assert requests_in(world, ROOT) == 2
    assert sum(each.quantity for each in world.store.ledger.values() if each.account.startswith("bolt")) == 0
    assert world.confirmed()[0].request_ids == ("good", bad.request_id, "other")
    assert audit(world.store, windows=WINDOWS) == ()


@pytest.mark.parametrize(
    "garbage",
    [
        {"request_id": "r9", "completion_tokens": 1.5},
        {"request_id": "r9"},
        {**GOOD.model_dump(), "request_id": "r9", "completion_tokens": "many"},
        7,
        None,
        ["r9"],
        "r9",
    ],
    ids=str,
)
def test_garbage_among_requests_is_parked_and_the_rest_lands(garbage: object) -> None:
    world = World()

    answer = delivered(world, batch([GOOD, usage("other")]), garbage)

    assert answer == Ack()
    assert requests_in(world, ROOT) == 2
    (parked,) = redriving(world).parked()
    assert (parked.account, json.loads(parked.data)) == ("!parked/malformed", garbage)
    is_named = isinstance(garbage, dict)
    assert set(world.confirmed()[0].request_ids) == {"good", "other", *(["r9"] if is_named else [])}
    # The router could not know and sends the same again; and again nothing is new.
    before = dict(world.store.ledger)
    assert delivered(world, batch([GOOD, usage("other")], boot_seq=2), garbage) == Ack()
    assert world.store.ledger == before


@pytest.mark.parametrize("changes", [{"requests": 7}, {"requests": None}, {"instance": 3}, {"boot_seq": "x"}], ids=str)
def test_what_is_no_batch_is_a_dead_letter(changes: dict[str, object]) -> None:
    world = World()

    answer = delivered(world, batch([GOOD]), **changes)

    assert isinstance(answer, Dead)
    assert not world.store.ledger


def test_what_is_nested_beyond_all_sense_is_a_dead_letter_at_once() -> None:
    world = World()
    good = message_of(batch([GOOD]))

    answer = world.service.deliver(Delivery(replace(good, body=b"[" * 100_000), "c"))

    assert isinstance(answer, Dead)
    assert "wrong data" in answer.reason


def test_a_version_that_nobody_knows_is_a_dead_letter_that_says_so() -> None:
    world, message = World(), message_of(batch([GOOD]))
    newer = Message(
        message.id, message.stream, message.subject, message.body, {**message.headers, "ce-type": "usage.reported.v9"}
    )

    answer = world.service.deliver(Delivery(newer, "c"))

    assert answer == Dead("unknown_event: no event type 'usage.reported.v9' in this build; upgrade, then re-drive")


def test_when_its_reason_is_gone_it_is_entered_told_and_no_longer_parked() -> None:
    world = World()
    early = usage("early", ended_ms=T0 + 10 * MINUTE_MS)
    world.hear(requested(), batch([early, GOOD]))

    assert redriving(world).redrive(by="kim") == [Outcome(next(redriving(world).parked()).id, Flaw.FUTURE)]
    assert requests_in(world, ROOT) == 1
    world.clock.advance(10 * MINUTE_MS)
    (outcome,) = redriving(world).redrive(by="kim", flaw=Flaw.FUTURE)
    world.pass_time(30)

    assert outcome.still == ""
    assert requests_in(world, ROOT) == 2
    assert requests_in(world, "!parked/future") == 0
    (back,) = (each for each in world.store.ledger.values() if each.id.startswith("back/"))
    assert json.loads(back.data) == {"by": "kim", "corrects": outcome.parked}
    assert sum(each.quantity for each in world.windows_told() if each.meter == "requests") == 2
    assert audit(world.store, windows=WINDOWS) == ()
    entries = dict(world.store.ledger)
    assert redriving(world).redrive(by="kim") == []
    world.hear(batch([early], boot_id="again"))
    assert world.store.ledger == entries


def test_a_redrive_that_dies_in_the_middle_is_finished_by_the_next() -> None:
    world = World()
    world.hear(requested(), batch([usage("early", ended_ms=T0 + 10 * MINUTE_MS)]))
    world.clock.advance(10 * MINUTE_MS)
    commits = 0

    def die(_moment: str) -> None:
        nonlocal commits
        commits += 1
        if commits == 3:
            raise Crash

    world.moment = die
    with pytest.raises(Crash):
        redriving(world).redrive(by="kim")
    world.moment = lambda _moment: None
    world.start()
    redriving(world).redrive(by="kim")
    world.pass_time(30)

    assert requests_in(world, ROOT) == 1
    assert requests_in(world, "!parked/future") == 0
    assert audit(world.store, windows=WINDOWS) == ()


def test_of_an_endpoint_that_was_not_heard_of_its_word_is_taken() -> None:
    world = World()

    world.hear(batch([GOOD]))

    assert requests_in(world, ROOT) == 1
    meter = world.service.runner("meter").state(ENDPOINT)
    assert meter is not None
    assert meter.dimensions is None
