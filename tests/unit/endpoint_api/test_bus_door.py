"""The door on the bus: each command has one answer, whatever is delivered again, refused, or cut short."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from libs.common.bus.port import Ack, Dead, Retry
from libs.common.errors import Unavailable
from libs.common.events import command as cmd
from libs.common.service import ATTEMPTS_MAX
from services.endpoint_api.core.refusal import Outpaced
from services.endpoint_api.core.requests import KEPT_MS, LEASE_MS
from services.endpoint_api.shell.doors.answer import Answer
from services.endpoint_api.shell.doors.once import Once, Turn
from tests.unit.endpoint_api.frontend import WHOSE, Frontend, a_command, message, raw
from tests.unit.endpoint_api.given import SPEC, TEARDOWN, Stand


def create(name: str = "chat", **more: object) -> cmd.Command:
    """A create."""
    return a_command(cmd.CreateEndpoint, name=name, spec=SPEC.model_dump(mode="json"), **more)


def test_a_command_is_answered_once_however_often_it_is_delivered() -> None:
    frontend = Frontend(Stand())

    assert [frontend.send(create(), "c1", attempt=n) for n in (1, 2, 3)] == [Ack(), Ack(), Ack()]

    assert frontend.statuses("c1") == [202]
    assert frontend.stand.stored()[0] == 1


def test_a_command_delivered_sixteen_times_at_once_is_done_and_answered_once() -> None:
    frontend = Frontend(Stand())

    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda n: frontend.send(create(), "c1", attempt=n), range(1, 17)))

    assert Ack() in said
    assert all(isinstance(each, Ack | Retry) for each in said)
    assert frontend.statuses("c1") == [202]
    assert frontend.stand.stored()[0] == 1


def test_a_refusal_stays_when_the_same_would_be_accepted_later() -> None:
    frontend = Frontend(Stand(endpoints_max=1))
    frontend.send(create("one"), "c1")
    frontend.send(create("two"), "c2")
    frontend.send(a_command(cmd.DeleteEndpoint, endpoint="one"), "c3")
    first = next(iter(frontend.stand.endpoints.every()))
    frontend.stand.hear(first.id, TEARDOWN, generation=first.generation)

    assert frontend.send(create("two"), "c2", attempt=2) == Ack()
    assert frontend.send(create("two"), "c4") == Ack()

    assert frontend.statuses("c2") == [429]
    assert frontend.statuses("c4") == [202]


def test_a_refusal_before_any_verb_is_remembered_too() -> None:
    frontend = Frontend(Stand())
    strange = a_command(cmd.ResumeEndpoint, endpoint="chat", tenant_id="later")
    frontend.send(strange, "c1")
    frontend.stand.api.tenants.adopt("later", "main")

    frontend.send(strange, "c1", attempt=2)

    assert frontend.statuses("c1") == [403]


def test_a_plan_is_told_once_and_changes_nothing() -> None:
    frontend = Frontend(Stand())

    frontend.send(create(dry_run=True), "c1")
    frontend.send(create(), "c2")
    frontend.send(create(dry_run=True), "c1", attempt=2)

    assert frontend.statuses("c1") == [200]
    assert frontend.stand.stored()[0] == 1


def test_what_was_answered_is_forgotten_after_thirty_days() -> None:
    frontend = Frontend(Stand())
    frontend.send(create(), "c1")
    frontend.send(create(), "c2")
    frontend.send(create("other", dry_run=True), "c3")
    frontend.deliver(raw(cmd.CreateEndpoint, "c4", json.dumps(WHOSE).encode()))
    requests = frontend.stand.service.runner("request")
    assert sorted(each.status for each in requests.every()) == [200, 202, 409, 422]

    frontend.stand.clock.advance(KEPT_MS)
    frontend.stand.service.tick()

    assert {(each.status, each.digest, each.body) for each in requests.every()} == {(0, "", "")}


def test_the_order_of_keys_says_nothing() -> None:
    frontend = Frontend(Stand())
    frontend.send(create(), "c1")
    patch = {"limits": {"requests_per_minute": 5}, "scaling": {"max": 2}}

    frontend.send(a_command(cmd.UpdateEndpoint, endpoint="chat", spec=patch), "c2")
    frontend.send(a_command(cmd.UpdateEndpoint, endpoint="chat", spec=dict(reversed(patch.items()))), "c2", attempt=2)

    assert frontend.statuses("c2") == [202]


def test_another_body_under_a_known_id_is_told_so_once_and_changes_nothing() -> None:
    frontend = Frontend(Stand())
    frontend.send(create(), "c1")

    for attempt in (1, 2):
        assert frontend.send(create("other"), "c1", attempt=attempt) == Ack()
    frontend.send(create(), "c1", attempt=3)

    assert frontend.statuses("c1") == [202, 422]
    assert frontend.answers("c1")[1].body["code"] == "idempotency_key_reused"
    assert frontend.stand.stored()[0] == 1


def test_who_asks_is_no_part_of_what_is_asked() -> None:
    frontend = Frontend(Stand())
    frontend.send(create(), "c1")

    frontend.send(create(actor="john"), "c1", attempt=2)

    assert frontend.statuses("c1") == [202]


class Dying(Once):
    """Dies between the effect and the answer, the first time."""

    alive = True

    def answer(self, turn: Turn, answer: Answer, *, told: object = None) -> Answer:
        """Remember it, the second time."""
        if self.alive:
            self.alive = False
            raise RuntimeError("killed")
        return super().answer(turn, answer, told=told)  # type: ignore[arg-type]  # Handed through as it came.


def dying(frontend: Frontend) -> None:
    """Kill the next command between its effect and its answer."""
    stand = frontend.stand
    stand.api.once = Dying(stand.service.runner("request"), stand.clock, stand.entropy)


def test_a_crash_between_effect_and_answer_is_one_effect_and_one_answer() -> None:
    frontend = Frontend(Stand())
    dying(frontend)

    assert isinstance(frontend.send(create(), "c1"), Retry)
    assert isinstance(frontend.send(create(), "c1", attempt=2), Retry)
    frontend.stand.clock.advance(LEASE_MS)
    assert frontend.send(create(), "c1", attempt=3) == Ack()

    assert frontend.statuses("c1") == [202]
    assert frontend.stand.stored()[0] == 1


def test_a_scale_that_was_cut_short_does_not_undo_a_later_one() -> None:
    frontend = Frontend(Stand())
    frontend.send(create(), "c1")
    dying(frontend)
    first = a_command(cmd.ScaleEndpoint, endpoint="chat", scaling={"max": 2})
    frontend.send(first, "c2")
    frontend.send(a_command(cmd.ScaleEndpoint, endpoint="chat", scaling={"max": 3}), "c3")
    frontend.stand.clock.advance(LEASE_MS)

    frontend.send(first, "c2", attempt=2)

    endpoint = next(iter(frontend.stand.endpoints.every()))
    assert endpoint.spec is not None
    assert (endpoint.spec.scaling.max, endpoint.generation) == (3, 3)
    assert [frontend.answers(each)[0].body["generation"] for each in ("c2", "c3")] == [2, 3]


def test_who_answers_late_gives_what_it_did_when_who_took_over_was_refused() -> None:
    stand = Stand()
    once = stand.api.once
    slow = once.begin("rq-a", "d")
    stand.clock.advance(LEASE_MS)
    second = once.begin("rq-a", "d")
    assert isinstance(slow, Turn)
    assert isinstance(second, Turn)
    once.drop(second)

    given = once.answer(slow, Answer(202, "{}"))

    assert given == Answer(202, "{}")
    assert once.begin("rq-a", "d") == Answer(202, "{}")


def test_who_answers_late_gives_the_answer_of_who_was_faster() -> None:
    stand = Stand()
    once = stand.api.once
    slow = once.begin("rq-a", "d")
    stand.clock.advance(LEASE_MS)
    second = once.begin("rq-a", "d")
    assert isinstance(slow, Turn)
    assert isinstance(second, Turn)
    once.answer(second, Answer(202, '{"by": "second"}'))

    assert once.answer(slow, Answer(202, '{"by": "slow"}')).body == '{"by": "second"}'


def test_who_answers_late_is_never_given_nothing() -> None:
    stand = Stand()
    once = stand.api.once
    slow = once.begin("rq-a", "d")
    stand.clock.advance(LEASE_MS)
    second = once.begin("rq-a", "d")
    assert isinstance(slow, Turn)
    assert isinstance(second, Turn)
    once.drop(second)
    once.begin("rq-a", "other")

    assert once.answer(slow, Answer(202, "{}")) == Answer(202, "{}")


class Away(Once):
    """Its store is away when an answer is to be remembered."""

    def begin(self, record: str, digest: str) -> Turn | Answer:
        """Never."""
        raise Unavailable("the database does not answer")


def test_what_we_cannot_do_just_now_is_no_answer() -> None:
    frontend = Frontend(Stand())
    known, stand = frontend.stand.api.once, frontend.stand
    stand.api.once = Away(stand.service.runner("request"), stand.clock, stand.entropy)

    assert isinstance(frontend.send(create(), "c1"), Retry)
    assert frontend.answers() == []

    stand.api.once = known
    frontend.send(create(), "c1", attempt=2)
    assert frontend.statuses("c1") == [202]


def test_who_was_outpaced_again_and_again_is_delivered_again_rather_than_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frontend = Frontend(Stand())
    frontend.send(create(), "c1")
    update = a_command(cmd.UpdateEndpoint, endpoint="chat", spec={"limits": {"requests_per_minute": 5}})

    def outpaced(*_: object, **__: object) -> None:
        raise Outpaced("others were faster")

    with monkeypatch.context() as others:
        others.setattr(frontend.stand.api.endpoints, "update", outpaced)
        assert isinstance(frontend.send(update, "c2"), Retry)
        assert frontend.statuses("c2") == []

    assert frontend.send(update, "c2", attempt=2) == Ack()
    assert frontend.statuses("c2") == [202]


def test_a_bug_is_tried_again_and_parked_in_the_end() -> None:
    frontend = Frontend(Stand())
    dying(frontend)

    assert isinstance(frontend.send(create(), "c1", attempt=ATTEMPTS_MAX - 1), Retry)
    frontend.stand.clock.advance(LEASE_MS)
    dying(frontend)
    assert isinstance(frontend.send(create(), "c1", attempt=ATTEMPTS_MAX), Dead)


def test_two_commands_without_if_match_are_two() -> None:
    frontend = Frontend(Stand())
    frontend.send(create(), "c1")

    kinds: list[type[cmd.Command]] = [cmd.PauseEndpoint, cmd.ResumeEndpoint, cmd.PauseEndpoint]
    for number, kind in enumerate(kinds):
        frontend.send(a_command(kind, endpoint="chat"), f"again-{number}")

    assert next(iter(frontend.stand.endpoints.every())).generation == 4


def test_an_id_on_the_bus_is_no_idempotency_key_of_a_tenant() -> None:
    stand = Stand()
    frontend = Frontend(stand)
    headers = stand.headers(**{"idempotency-key": "c1", "x-request-id": "c1"})
    stand.client.post("/v1/endpoints", json={"name": "theirs", "spec": SPEC.model_dump(mode="json")}, headers=headers)

    frontend.send(create(), "c1")

    assert frontend.statuses("c1") == [202]
    assert {each.name for each in stand.endpoints.every()} == {"theirs", "chat"}


@pytest.mark.parametrize("id", ["a b", "x.>", "*", "é", "", "x" * 101])
def test_a_command_whose_id_is_no_token_is_parked(id: str) -> None:
    frontend = Frontend(Stand())
    good = message(create(), "good")

    said = frontend.deliver(replace(good, id=id, headers={**good.headers, "ce-id": id}))

    assert isinstance(said, Dead)
    assert frontend.answers() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"{", b"[" * 100_000, b'{"tenant_id": "acme"}'])
def test_what_says_not_whose_it_is_is_parked(body: bytes) -> None:
    frontend = Frontend(Stand())

    assert isinstance(frontend.deliver(raw(cmd.PauseEndpoint, "c1", body)), Dead)
    assert frontend.answers() == []


def test_a_command_for_another_tenant_than_its_subject_is_parked() -> None:
    frontend = Frontend(Stand())

    said = frontend.deliver(raw(cmd.PauseEndpoint, "c1", json.dumps(WHOSE).encode(), tenant="spy"))

    assert isinstance(said, Dead)
