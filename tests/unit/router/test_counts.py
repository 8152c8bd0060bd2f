"""The words of hosts to each other: how often, of what, and what is made of a bad one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from libs.common.bus.port import Message
from libs.common.events.tables import CountsEntry
from services.router.core.elsewhere import SILENT_S, Elsewhere
from services.router.core.limits import Grant, Limit, MinuteLimits
from services.router.shell.limits.counts import WHOLE_S, Counts

FIVE = [Limit("endpoint/e", requests=5)]


class Host:
    """A host whose words are kept, if the bus is there."""

    def __init__(self, name: str) -> None:
        self.now_s = 1_000.0
        self.limits = MinuteLimits()
        elsewhere = Elsewhere(self.limits, MinuteLimits(), slot=1_000)
        self.counts = Counts(elsewhere, instance=name, boot_id=f"b-{name}", now_s=lambda: self.now_s)
        self.words: list[Message] = []
        self.is_bus_away = False

    async def publish(self, messages: Sequence[Message]) -> int:
        if self.is_bus_away:
            return 0
        self.words += messages
        return len(messages)

    async def told_in(self, seconds: float, *, other: Host | None = None) -> int:
        """How many words it sends within so many seconds, and how many of them the other one hears."""
        before = len(self.words)
        for _ in range(round(seconds * 10)):
            self.now_s += 0.1
            await self.counts.tell(self.publish)
        for word in self.words[before:]:
            if other is not None:
                other.now_s += 0.1
                other.counts.change(word.subject.rpartition(".")[2], word.body)
        return len(self.words) - before

    def admits(self, asked: int = 9) -> int:
        said = [self.limits.reserve(FIVE, tokens=1, now_ms=int(self.now_s * 1000)) for _ in range(asked)]
        return sum(isinstance(each, Grant) for each in said)


async def test_a_host_that_hears_nobody_says_every_two_seconds_that_it_is_there() -> None:
    one = Host("one")
    one.admits()

    assert await one.told_in(10 * WHOLE_S) == 10
    assert len({each.id for each in one.words}) == 10


async def test_hosts_that_hear_each_other_share_the_room_of_a_limit() -> None:
    one, two = Host("one"), Host("two")
    await one.told_in(4, other=two)
    await two.told_in(4, other=one)

    assert one.admits() == 5
    assert await one.told_in(0.3, other=two) == 1, "ten times a second, but nothing twice"

    assert two.admits() == 0
    two.now_s += 64
    assert two.admits() == 5


async def test_of_what_is_said_each_time_only_the_last_seconds_are_told_and_all_now_and_then() -> None:
    one, two = Host("one"), Host("two")
    await two.told_in(4, other=one)
    one.admits()
    await one.told_in(5)
    one.limits.reserve([Limit("endpoint/other", requests=5)], tokens=1, now_ms=int(one.now_s * 1000))
    before = len(one.words)

    await one.told_in(WHOLE_S + 0.1)

    told = [set(CountsEntry.model_validate_json(each.body).counts) for each in one.words[before:]]
    assert {"endpoint/other"} in told
    assert {"endpoint/e", "endpoint/other"} in told


async def test_a_host_that_hears_nobody_any_more_stops_telling_ten_times_a_second() -> None:
    one, two = Host("one"), Host("two")
    await two.told_in(4, other=one)

    await one.told_in(SILENT_S + 1)
    one.admits()

    assert await one.told_in(1) <= 1


async def test_what_the_bus_did_not_take_is_told_when_it_is_back() -> None:
    one, two = Host("one"), Host("two")
    await one.told_in(4, other=two)
    one.is_bus_away = True
    assert one.admits(3) == 3
    assert await one.told_in(5) == 0

    one.is_bus_away = False
    await one.told_in(WHOLE_S, other=two)

    assert two.admits() == 2


async def test_words_of_our_own_and_unreadable_ones_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    one = Host("one")
    await one.told_in(2 * WHOLE_S)

    with caplog.at_level(logging.WARNING):
        one.counts.change("one", one.words[-1].body)
        one.counts.change("two", b'{"instance": "two", "counts": 7}')
        one.counts.change("two", None)

    assert [each.getMessage() for each in caplog.records] == ["counts of a host are unreadable; kept those before"]
    assert await one.told_in(1) <= 1, "nobody was heard"
    assert one.admits() == 5
