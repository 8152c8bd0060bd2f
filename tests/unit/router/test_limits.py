"""Limits of a minute: never over in any window, all or none, settled with what was used."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events.endpoint import Limits
from libs.common.events.tables import QuotaEntry
from libs.common.keys import Keyring
from services.router.core.limits import Grant, Limit, MinuteLimits, Refused
from services.router.core.rows import OwnRows
from services.router.shell.limits.quotas import QuotaTable
from tests.unit.router.scene import a_route

MINUTE_MS = 60_000
ASKS = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(1, 40), st.sampled_from(("a", "b")), st.booleans()), max_size=120
)


@given(ASKS, st.integers(1, 6), st.integers(20, 90))
def test_no_window_of_a_minute_holds_more_than_any_limit(
    asks: list[tuple[int, int, str, bool]], requests: int, tokens: int
) -> None:
    limiter, now_ms, admitted = MinuteLimits(), 0, list[tuple[int, int, str]]()
    for pause_ms, amount, endpoint, ends in asks:
        now_ms += pause_ms
        limits = [Limit(endpoint, requests, tokens), Limit("tenant", requests + 2, tokens + 20)]
        said = limiter.reserve(limits, tokens=amount, now_ms=now_ms)
        if isinstance(said, Grant):
            used = amount // 2 if ends else amount
            limiter.settle(said, tokens=used, now_ms=now_ms)
            admitted.append((now_ms, used, endpoint))

    for until_ms, _, _ in admitted:
        within = [each for each in admitted if until_ms - MINUTE_MS < each[0] <= until_ms]
        assert len(within) <= requests + 2
        assert sum(used for _, used, _ in within) <= tokens + 20
        for endpoint in ("a", "b"):
            own = [used for _, used, whose in within if whose == endpoint]
            assert len(own) <= requests
            assert sum(own) <= tokens


class Died(Exception):
    """A worker did, while it counted."""


class Mortal(list[int]):
    """Cells of which so many more are written."""

    left = 1 << 60

    def __setitem__(self, at: Any, value: Any) -> None:
        if self.left <= 0:
            raise Died
        self.left -= 1
        super().__setitem__(at, value)


@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 40), st.integers(0, 15)), max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_worker_that_dies_while_it_counts_leaves_no_more_room_than_there_is(
    asks: list[tuple[int, int, int]],
) -> None:
    rows, limits, now_ms = OwnRows(), [Limit("e", 5, 90)], 0
    rows.cells = cells = Mortal()
    limiter, running, served = MinuteLimits(rows), list[tuple[Grant, int, int]](), list[tuple[int, int]]()
    for pause_ms, amount, writes in asks:
        now_ms += pause_ms
        cells.left = writes if amount % 3 == 0 else 1 << 60
        try:
            if running and amount % 2:
                grant, began_ms, most = running.pop(0)
                served.append((began_ms, most // 2))
                limiter.settle(grant, tokens=most // 2, now_ms=now_ms)
            else:
                said = limiter.reserve(limits, tokens=amount, now_ms=now_ms)
                if isinstance(said, Grant):
                    running.append((said, now_ms, amount))
        except Died:
            cells.left = 1 << 60
            limiter = MinuteLimits(rows)

    served += [(began_ms, most) for _, began_ms, most in running]
    for until_ms, _ in served:
        within = [used for began_ms, used in served if until_ms - MINUTE_MS < began_ms <= until_ms]
        assert len(within) <= 5
        assert sum(within) <= 90


@pytest.mark.parametrize("writes", range(12))
def test_what_a_worker_gave_back_as_it_died_is_not_given_twice(writes: int) -> None:
    rows, limits = OwnRows(), [Limit("e", tokens=90)]
    rows.cells = cells = Mortal()
    first = MinuteLimits(rows).reserve(limits, tokens=60, now_ms=0)
    assert isinstance(first, Grant)
    MinuteLimits(rows).renewed("e", 1)

    cells.left = writes
    with contextlib.suppress(Died):
        MinuteLimits(rows).settle(first, tokens=30, now_ms=1_000)
    cells.left = 1 << 60
    second = MinuteLimits(rows).reserve(limits, tokens=90, least=1, now_ms=1_000)
    third = MinuteLimits(rows).reserve(limits, tokens=90, least=1, now_ms=61_000)

    assert isinstance(second, Grant)
    assert second.tokens <= 60
    assert not isinstance(third, Grant) or second.tokens + third.tokens <= 90


def test_two_hundred_at_once_against_room_for_ten_make_ten() -> None:
    limiter = MinuteLimits()

    said = [limiter.reserve([Limit("e", requests=10)], tokens=1, now_ms=7) for _ in range(200)]

    assert sum(isinstance(each, Grant) for each in said) == 10


def test_a_refused_request_takes_nothing_of_the_limits_that_had_room() -> None:
    limiter, narrow, wide = MinuteLimits(), Limit("e", requests=1), Limit("t", requests=2)
    assert isinstance(limiter.reserve([narrow, wide], tokens=1, now_ms=0), Grant)

    for _ in range(5):
        assert isinstance(limiter.reserve([narrow, wide], tokens=1, now_ms=0), Refused)

    assert isinstance(limiter.reserve([wide], tokens=1, now_ms=0), Grant)


def test_room_comes_back_when_it_was_said_to() -> None:
    limiter, limits = MinuteLimits(), [Limit("e", requests=1)]
    limiter.reserve(limits, tokens=1, now_ms=999)
    refused = limiter.reserve(limits, tokens=1, now_ms=30_000)

    assert isinstance(refused, Refused)
    assert refused.retry_after_s == 31
    assert isinstance(limiter.reserve(limits, tokens=1, now_ms=60_998), Refused)
    assert isinstance(limiter.reserve(limits, tokens=1, now_ms=30_000 + 31_000), Grant)


def test_what_was_not_used_comes_back_and_what_was_used_beyond_is_owed() -> None:
    limiter, limits = MinuteLimits(), [Limit("e", tokens=100)]
    first = limiter.reserve(limits, tokens=100, now_ms=0)
    assert isinstance(first, Grant)
    assert isinstance(limiter.reserve(limits, tokens=1, now_ms=0), Refused)

    limiter.settle(first, tokens=40, now_ms=0)
    second = limiter.reserve(limits, tokens=60, now_ms=0)
    assert isinstance(second, Grant)
    limiter.settle(second, tokens=90, now_ms=50_000)

    assert isinstance(limiter.reserve(limits, tokens=71, now_ms=62_000), Refused)
    assert isinstance(limiter.reserve(limits, tokens=70, now_ms=62_000), Grant)


def test_a_request_larger_than_the_limit_is_not_told_to_wait() -> None:
    said = MinuteLimits().reserve([Limit("e", tokens=10)], tokens=11, now_ms=0)

    assert isinstance(said, Refused)
    assert (said.what, said.retry_after_s) == ("tokens", None)


def test_a_request_that_may_generate_more_than_is_left_is_granted_what_is_left() -> None:
    limiter, limits = MinuteLimits(), [Limit("e", tokens=100), Limit("t", tokens=70)]

    said = limiter.reserve(limits, tokens=4096, least=20, now_ms=0)
    assert isinstance(said, Grant)
    limiter.settle(said, tokens=55, now_ms=0)
    short = limiter.reserve(limits, tokens=4096, least=20, now_ms=0)

    assert said.tokens == 70
    assert isinstance(short, Refused), "15 tokens are left, and it needs 20"


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_no_bucket_ever_runs_more_at_once_than_it_may(ends: list[int], key: int, tenant: int) -> None:
    limiter, running = MinuteLimits(), list[Grant]()
    for each in ends:
        said = limiter.reserve([Limit("k", at_once=key), Limit("t", 10**6, at_once=tenant)], tokens=1, now_ms=0)
        if isinstance(said, Grant):
            running.append(said)
        assert isinstance(said, Grant) or len(running) == min(key, tenant)
        assert len(running) <= min(key, tenant)
        for _ in range(min(each, len(running))):
            limiter.settle(running.pop(), tokens=1, now_ms=0)


def test_a_limit_of_nothing_lets_nothing_in_and_no_limit_everything() -> None:
    limiter = MinuteLimits()

    assert isinstance(limiter.reserve([Limit("t", requests=0)], tokens=1, now_ms=0), Refused)
    said = limiter.reserve([Limit("e")], tokens=10**9, now_ms=0)
    assert isinstance(said, Grant)
    assert (said.tokens, said.headers) == (10**9, b"")


def test_an_answer_says_what_is_left_of_the_tightest_limit() -> None:
    said = MinuteLimits().reserve([Limit("e", 5, 1000), Limit("t", 9, 100)], tokens=30, now_ms=0)

    assert isinstance(said, Grant)
    headers = said.headers.decode()
    assert "x-ratelimit-limit-requests: 5\r\nx-ratelimit-remaining-requests: 4\r\n" in headers
    assert "x-ratelimit-limit-tokens: 100\r\nx-ratelimit-remaining-tokens: 70\r\n" in headers


def test_an_answer_says_when_the_first_of_what_is_held_has_left_the_window() -> None:
    limiter, limits = MinuteLimits(), [Limit("e", 5)]

    def reset_s(now_ms: int) -> bytes:
        said = limiter.reserve(limits, tokens=1, now_ms=now_ms)
        assert isinstance(said, Grant)
        return said.headers.rpartition(b": ")[2]

    assert [reset_s(now_ms) for now_ms in (5_000, 25_999, 60_000)] == [b"61s\r\n", b"41s\r\n", b"6s\r\n"]
    assert reset_s(66_000) == b"20s\r\n", "the one of second 5 has left, that of second 25 is the first"
    assert reset_s(400_000) == b"61s\r\n"


def test_the_limits_of_endpoint_project_and_tenant_apply_together() -> None:
    quotas = QuotaTable(Keyring())
    route = a_route(["http://a:1"]).model_copy(update={"limits": Limits(requests_per_minute=3)})
    tenant = QuotaEntry(tenant_id=route.tenant_id, tokens_per_minute=50)
    project = QuotaEntry(tenant_id=route.tenant_id, project_id=route.project_id, requests_per_minute=7)
    quotas.change(route.tenant_id, tenant.model_dump_json().encode())
    quotas.change(f"{route.tenant_id}.{route.project_id}", project.model_dump_json().encode())

    found = quotas.limits_for(route)
    quotas.change(route.tenant_id, b"junk")
    quotas.change(f"{route.tenant_id}.{route.project_id}", None)

    assert [(each.requests, each.tokens) for each in found] == [(3, None), (7, None), (None, 50)]
    assert [(each.requests, each.tokens) for each in quotas.limits_for(route)] == [(3, None), (None, 50)]
