"""Telling other hosts what this one admitted, ten times a second, and counting what they tell (core/elsewhere.py).

Between hosts a limit may be passed by what the others admit until they are heard: some 0.2 s. A word tells of the last
seconds; each host says all of its minute every two seconds, which is also how hosts find each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from libs.common.bus.port import Message, bucket_put
from libs.common.bus.streams import COUNTS
from libs.common.errors import Unavailable
from libs.common.events.tables import CountsEntry
from libs.common.units import SECOND_MS
from services.router.core.elsewhere import Elsewhere, Word
from services.router.core.limits import MinuteLimits
from services.router.core.rows import WINDOW_S
from services.router.shell.limits.shared_limits import SharedRows
from services.router.shell.request.gateway import Gateway
from services.router.shell.settings import RouterSettings
from services.router.shell.told.entries import entry_of
from services.router.shell.told.side_bus import SideBus
from services.router.shell.told.usage import PublishLater
from services.router.shell.workers.team import Team

TELL_S: Final = 0.1
RECENT_S: Final = 3  # What each word tells of: as long as a host may be unheard before all is said again.
WHOLE_S: Final = 2
AWAY_S: Final = 1.0  # Until it is tried again what the bus did not take.


class Counts:
    """The words of this host and of the others."""

    def __init__(self, elsewhere: Elsewhere, *, instance: str, boot_id: str, now_s: Callable[[], float]) -> None:
        """``now_s`` is the clock of the limits."""
        self._elsewhere = elsewhere
        self._instance = instance
        self._boot_id = boot_id
        self._now_s = now_s
        self._whole_s = -1.0 * WHOLE_S  # When all was told.
        self._told: Word | None = None

    def change(self, key: str, value: bytes | None) -> None:
        """A key of the bucket was set or deleted; what is there of ourselves we know."""
        if value is None or key == self._instance:
            return
        said = entry_of(CountsEntry, key, value, otherwise="counts of a host are unreadable; kept those before")
        if said is None:
            return
        with contextlib.suppress(Unavailable):  # Its next word says it again.
            self._elsewhere.hear(said, slot=int(self._now_s()))

    async def run(self, publish: PublishLater) -> None:
        """Tell until cancelled."""
        while True:
            is_told = await self.tell(publish)
            await asyncio.sleep(TELL_S if is_told else AWAY_S)

    async def tell(self, publish: PublishLater) -> bool:
        """Tell what is new, if there is somebody to hear it; False if it can't be read, or the bus did not take it."""
        now_s = self._now_s()
        slot = int(now_s)
        with contextlib.suppress(Unavailable):
            self._elsewhere.pass_time(slot)
        is_whole = now_s - self._whole_s >= WHOLE_S
        if not is_whole and not self._elsewhere.hears(slot):
            return True
        try:
            word = self._elsewhere.word(slot, within_s=WINDOW_S if is_whole else RECENT_S)
        except Unavailable:
            return False
        if not is_whole and word == self._told:
            return True
        if not await publish([self._message(word, now_s)]):
            return False
        self._whole_s = now_s if is_whole else self._whole_s
        self._told = word
        return True

    def _message(self, word: Word, now_s: float) -> Message:
        entry = CountsEntry(
            instance=self._instance,
            boot_id=self._boot_id,
            second=int(now_s),
            counts=word.counts,
            running=word.running,
        )
        return bucket_put(
            bucket=COUNTS,
            key=self._instance,
            value=entry.model_dump_json().encode(),
            id=f"{self._instance}|{self._boot_id}|counts|{int(now_s * SECOND_MS)}",
        )


def counts_parts(
    settings: RouterSettings, gateway: Gateway, bus: SideBus, team: Team | None, boot_id: str
) -> tuple[Callable[[], Awaitable[None]], ...]:
    """What the first worker of one of several hosts does for the limits of them all."""
    slot = int(gateway.now_s())
    if team is None:
        assert isinstance(gateway.limiter, MinuteLimits)
        elsewhere = Elsewhere(gateway.limiter, MinuteLimits(), slot=slot)
    else:
        boot_id = team.boot_id
        rules = MinuteLimits(SharedRows(team.limits, team.count), workers=team.count)
        theirs = MinuteLimits(SharedRows(team.elsewhere, 0), workers=0)
        elsewhere = Elsewhere(rules, theirs, slot=slot, lock=team.limits)
    counts = Counts(elsewhere, instance=settings.instance, boot_id=boot_id, now_s=gateway.now_s)
    bus.watch(COUNTS, counts.change)
    return (partial(counts.run, bus.publish),)
