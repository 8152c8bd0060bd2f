"""Requests: one answer for a key, whoever is slow, dies or comes again."""

from __future__ import annotations

from functools import reduce

import pytest

from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import event_id
from libs.common.runner import Woke
from services.endpoint_api.core.requests import (
    KEPT_MS,
    LEASE_MS,
    InFlight,
    Request,
    RequestAnswered,
    RequestBegun,
    RequestDropped,
    Reused,
    decide,
)

NOW = 1_800_000_000_000
KEY = "rq-abcdefghij"


def begun(token: str, digest: str = "d") -> RequestBegun:
    """Somebody's turn."""
    return RequestBegun(digest=digest, token=token)


def answered(status: int = 202, digest: str = "d") -> RequestAnswered:
    """An answer."""
    return RequestAnswered(digest=digest, status=status, body="{}", etag='"1"')


def after(*news: tuple[Internal, int]) -> Request:
    """The request after all of these, each at its time."""
    return reduce(lambda state, each: decide(state, wrapped(each[0]), NOW + each[1]).state, news, Request(KEY))


def wrapped(news: Internal) -> Envelope:
    """As the runner takes it."""
    return Envelope(event_id(KEY, news.kind, 0), news, subject=KEY, time_ms=NOW)


def test_an_answer_stays_and_another_body_is_refused() -> None:
    request = after((begun("a"), 0), (answered(), 1), (answered(409), 2))

    assert (request.status, request.etag) == (202, '"1"')
    with pytest.raises(Reused):
        decide(request, wrapped(begun("b", "other")), NOW + 3)


def test_a_second_is_told_to_wait_until_the_lease_is_over() -> None:
    request = after((begun("a"), 0))

    with pytest.raises(InFlight):
        decide(request, wrapped(begun("b")), NOW + LEASE_MS - 1)

    assert decide(request, wrapped(begun("b")), NOW + LEASE_MS).state.token == "b"


def test_who_answers_after_the_lease_is_heard_if_nobody_else_answered() -> None:
    request = after((begun("a"), 0), (begun("b"), LEASE_MS), (answered(), LEASE_MS + 1))

    assert request.status == 202


def test_a_late_answer_is_kept_when_who_took_over_was_refused() -> None:
    request = after(
        (begun("a"), 0), (begun("b"), LEASE_MS), (RequestDropped(token="b"), LEASE_MS + 1), (answered(), LEASE_MS + 2)
    )

    assert (request.status, request.digest) == (202, "d")
    with pytest.raises(Reused):
        decide(request, wrapped(begun("c", "other")), NOW + LEASE_MS + 3)


def test_a_late_answer_does_not_answer_what_the_key_means_by_now() -> None:
    taken = [(begun("a"), 0), (begun("b"), LEASE_MS), (RequestDropped(token="b"), LEASE_MS + 1)]

    request = after(*taken, (begun("c", "other"), LEASE_MS + 2), (answered(), LEASE_MS + 3))

    assert (request.status, request.digest, request.token) == (0, "other", "c")


def test_who_was_overtaken_drops_nothing() -> None:
    request = after((begun("a"), 0), (begun("b"), LEASE_MS), (RequestDropped(token="a"), LEASE_MS + 1))

    assert request.token == "b"


@pytest.mark.parametrize(
    "news",
    [
        [(begun("a"), 0)],
        [(begun("a"), 0), (answered(), 1)],
        [(begun("a"), 0), (RequestDropped(token="a"), 1), (answered(), 2)],
        [(answered(), 0)],
    ],
)
def test_whatever_is_remembered_is_forgotten_after_thirty_days(news: list[tuple[Internal, int]]) -> None:
    before, (last, at_ms) = after(*news[:-1]), news[-1]

    decision = decide(before, wrapped(last), NOW + at_ms)

    assert decision.wake_at_ms is not None
    assert NOW + KEPT_MS <= decision.wake_at_ms <= NOW + at_ms + KEPT_MS
    woken = decide(decision.state, wrapped(Woke(due_ms=decision.wake_at_ms)), decision.wake_at_ms)
    assert woken.state == Request(KEY)
