"""The key of a head that a connection repeats: not looked at each time, and never good for longer than it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.common.clock import ManualClock
from libs.common.events.tables import KeyEntry
from libs.common.units import MINUTE_MS
from tests.bench.by_hand import REQUEST, Bench, a_bench
from tests.bench.peers.proxies import KEY

LATE_MS = 1_800_000_000_000 + MINUTE_MS - 10  # Shortly before a minute ends.


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = a_bench(tmp_path)
    made.gateway.clock = ManualClock(LATE_MS)
    for _ in range(3):
        made.served(REQUEST)
    yield made
    made.gateway.journal.close()


def clock_of(bench: Bench) -> ManualClock:
    assert isinstance(bench.gateway.clock, ManualClock)
    return bench.gateway.clock


def key_of(bench: Bench) -> KeyEntry:
    found = bench.gateway.keyring.check(KEY.plaintext, now_ms=LATE_MS)
    assert found is not None
    return found


def is_refused(bench: Bench) -> bool:
    bench.client.data_received(REQUEST)
    return bench.near.taken().startswith(b"HTTP/1.1 401")


async def test_a_key_that_is_revoked_is_good_for_not_one_more_request(bench: Bench) -> None:
    bench.gateway.keyring.change(KEY.key_id, None)

    assert is_refused(bench)


async def test_a_key_that_expires_is_good_until_then(bench: Bench) -> None:
    bench.gateway.keyring.change(KEY.key_id, key_of(bench).model_copy(update={"expires_at_ms": LATE_MS + 5}))
    bench.served(REQUEST)
    clock_of(bench).advance(4)
    bench.served(REQUEST)
    clock_of(bench).advance(1)

    assert is_refused(bench)


async def test_what_another_key_is_told_changes_nothing_for_this_one(bench: Bench) -> None:
    bench.gateway.keyring.change("another000", key_of(bench).model_copy(update={"key_id": "another000"}))

    bench.served(REQUEST)


async def test_each_minute_has_its_note_that_the_key_was_used(bench: Bench) -> None:
    uses = bench.gateway.key_use
    uses.told(uses.untold(9), LATE_MS)
    bench.served(REQUEST)
    assert uses.untold(9) == ()

    clock_of(bench).advance(10)
    bench.served(REQUEST)

    assert uses.untold(9) == ((KEY.key_id, LATE_MS + 10),)
