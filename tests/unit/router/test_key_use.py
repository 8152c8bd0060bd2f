"""The uses of keys: noted beside requests, told once a key and minute, kept until the bus has them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from libs.common.bus.port import Message
from libs.common.clock import ManualClock
from libs.common.events.envelope import from_wire
from libs.common.events.route import KeyUsed
from libs.common.key_use import KeyUse
from libs.common.units import MINUTE_MS
from services.router.shell.told.key_use import USES_MAX, KeyUseReporter

NOW: Final = 1_800_000_000_000


class Bus:
    """Takes messages, or nothing while it is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.told: list[tuple[str, int]] = []
        self.ids: list[str] = []

    async def publish(self, messages: Sequence[Message]) -> int:
        """Say how many are stored."""
        if self.is_away:
            return 0
        for each in messages:
            data = from_wire(each.headers, each.body).data
            assert isinstance(data, KeyUsed)
            assert len(each.body) < 256 * 1024
            self.told += [(key.key_id, key.last_used_ms) for key in data.keys]
            self.ids.append(each.id)
        return len(messages)


def told(use: KeyUse, bus: Bus, clock: ManualClock, *, rounds: int = 1) -> int:
    """How many keys some rounds told."""
    reporter = KeyUseReporter(use, clock, instance="router-0", boot_id="b")
    return sum(asyncio.run(reporter.round(bus.publish)) for _ in range(rounds))


def test_a_key_is_told_once_a_minute_however_often_it_is_used() -> None:
    use, bus, clock = KeyUse(), Bus(), ManualClock(NOW)
    for second in range(150):
        use.note("k", NOW + second * 1000)
        told(use, bus, clock)

    assert bus.told == [("k", NOW), ("k", NOW + MINUTE_MS), ("k", NOW + 2 * MINUTE_MS)]


def test_what_the_bus_did_not_take_is_told_later_with_the_newest_minute() -> None:
    use, bus, clock = KeyUse(), Bus(), ManualClock(NOW)
    bus.is_away = True
    for minute in range(3):
        use.note("k", NOW + minute * MINUTE_MS)
        assert told(use, bus, clock) == 0
    bus.is_away = False

    assert told(use, bus, clock, rounds=2) == 1
    assert bus.told == [("k", NOW + 2 * MINUTE_MS)]


def test_many_keys_are_told_in_messages_that_fit() -> None:
    use, bus, clock = KeyUse(), Bus(), ManualClock(NOW)
    names = [f"key{n:07}" for n in range(USES_MAX * 2 + 1)]
    for each in names:
        use.note(each, NOW)

    assert told(use, bus, clock) == len(names)
    assert len(set(bus.ids)) == 3
    assert [each for each, _ in bus.told] == names


def test_a_use_while_it_is_told_is_not_lost() -> None:
    use = KeyUse()
    use.note("k", NOW)
    uses = use.untold(10)
    use.note("k", NOW + MINUTE_MS)

    use.told(uses, NOW + MINUTE_MS)

    assert use.untold(10) == (("k", NOW + MINUTE_MS),)


def test_what_was_told_takes_no_memory_after_its_minute() -> None:
    use = KeyUse()
    for n in range(1000):
        use.note(f"k{n}", NOW)
    use.told(use.untold(1000), NOW + MINUTE_MS)
    use.note("k", NOW + MINUTE_MS)

    assert use.untold(10) == (("k", NOW + MINUTE_MS),)
    assert len(use._minutes) == 1
