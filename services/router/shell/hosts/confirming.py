"""Confirmations of the ledger on their way to the hosts that have no control half, and so hear no events."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Final

from libs.common.bus.port import Message, bucket_put
from libs.common.bus.streams import CONFIRMED
from libs.common.events.tables import ConfirmedEntry
from libs.common.events.usage import UsageConfirmed
from services.router.shell.told.entries import entry_of
from services.router.shell.told.usage import PublishLater

RING: Final = 64  # Keys of a host: so many words may be under way to it before one is overwritten unread.
IDS_MAX: Final = 2000  # In one of them; some 60 KB.


def host_of(instance: str) -> str:
    """The host that an instance is, or is a worker of."""
    name, _, number = instance.rpartition("-w")
    return name if name and number.isdigit() else instance


class Confirming:
    """The first host's: passes on what is another's. One that is lost is said again: its rows are reported again."""

    def __init__(self, *, instance: str, boot_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self._instance = instance
        self._boot_id = boot_id
        self._loop = loop
        self._news = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: dict[str, list[str]] = {}
        self._count = itertools.count()

    def forward(self, told: UsageConfirmed) -> None:
        """Pass it on soon. Called in any thread."""
        if host_of(told.instance) == self._instance:
            return
        with self._lock:
            self._waiting.setdefault(told.instance, []).extend(told.request_ids)
        self._loop.call_soon_threadsafe(self._news.set)

    async def run(self, publish: PublishLater) -> None:
        """Pass on until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            for message in self.due():
                await publish([message])

    def due(self) -> list[Message]:
        """What waits, as words to each host."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        return [
            self._word(instance, request_ids[begin : begin + IDS_MAX])
            for instance, request_ids in waiting.items()
            for begin in range(0, len(request_ids), IDS_MAX)
        ]

    def _word(self, instance: str, request_ids: list[str]) -> Message:
        number = next(self._count)
        entry = ConfirmedEntry(instance=instance, request_ids=tuple(request_ids))
        return bucket_put(
            bucket=CONFIRMED,
            key=f"{host_of(instance)}.{number % RING}",
            value=entry.model_dump_json().encode(),
            id=f"{self._instance}|{self._boot_id}|confirmed|{number}",
        )


class Confirmed:
    """An other host's: hears what is for it. `change` is the watch's, in the event loop."""

    def __init__(self, instance: str, confirm: Callable[[UsageConfirmed], object]) -> None:
        self._prefix = f"{instance}."
        self._confirm = confirm
        self._running: set[asyncio.Task[object]] = set()

    def change(self, key: str, value: bytes | None) -> None:
        """A word to a host."""
        if value is None or not key.startswith(self._prefix):
            return
        entry = entry_of(ConfirmedEntry, key, value, otherwise="a confirmation is unreadable")
        if entry is None:
            return
        told = UsageConfirmed(instance=entry.instance, request_ids=entry.request_ids)
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._confirm, told))  # It may wait for a disk.
        self._running.add(task)
        task.add_done_callback(self._running.discard)
