"""The copy of keys, routes and quotas: what was deleted is gone for good, what the bus lost is served on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from libs.common.bus.streams import KEYS, QUOTAS, ROUTES
from libs.common.clock import ManualClock
from libs.common.tasks import end
from libs.common.units import MINUTE_MS
from services.router.shell.told.copies import STALE_MS, Copies

NOW: Final = 1_800_000_000_000
WAIT_S: Final = 30.0


class World:
    """A router's tables, and the file that outlives it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path / "tables.json")
        self.clock = ManualClock(NOW)
        self.secret = b"of this router"
        self.start()

    def start(self) -> None:
        """A new process: empty tables, then the copy."""
        self.tables: dict[str, dict[str, bytes]] = {KEYS: {}, ROUTES: {}, QUOTAS: {}}
        self.lost: list[tuple[str, str]] = []
        self.copies = Copies(
            self.path,
            self.clock,
            {bucket: self._applier(bucket) for bucket in self.tables},
            secret=self.secret,
            on_lost=lambda bucket, key: self.lost.append((bucket, key)),
        )
        self.loaded = self.copies.load()

    def _applier(self, bucket: str) -> Applier:
        return Applier(self.tables[bucket])

    def tell(self, bucket: str, key: str, value: bytes | None) -> None:
        """What the bus says."""
        self.copies.watcher(bucket)(key, value)


class Applier:
    """Keeps what it is told."""

    def __init__(self, table: dict[str, bytes]) -> None:
        self._table = table

    def __call__(self, key: str, value: bytes | None) -> None:
        """A change."""
        if value is None:
            self._table.pop(key, None)
        else:
            self._table[key] = value


def test_what_the_bus_lost_is_served_on_until_it_is_put_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    for bucket in (KEYS, ROUTES, QUOTAS):
        world.tell(bucket, "a", b"1")

    for bucket in (KEYS, ROUTES, QUOTAS):
        world.copies.loser(bucket)("a")
    kept = {bucket: dict(table) for bucket, table in world.tables.items()}
    world.tell(KEYS, "a", b"2")
    world.clock.advance(STALE_MS + 1)
    world.copies.expire()

    assert kept == {bucket: {"a": b"1"} for bucket in (KEYS, ROUTES, QUOTAS)}
    assert world.lost == [(KEYS, "a"), (ROUTES, "a"), (QUOTAS, "a")]
    assert world.tables == {KEYS: {"a": b"2"}, ROUTES: {}, QUOTAS: {}}


def test_a_start_with_a_copy_and_an_empty_bus_serves_and_a_deletion_still_counts(tmp_path: Path) -> None:
    world = World(tmp_path)
    for key in ("revoked", "live"):
        world.tell(KEYS, key, b"1")
    world.copies.save()

    world.start()
    world.tell(KEYS, "revoked", None)
    world.copies.settle()

    assert world.loaded == 2
    assert world.tables[KEYS] == {"live": b"1"}
    assert world.lost == [(KEYS, "live")]


def test_a_key_that_was_deleted_never_comes_back_not_even_after_a_start(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tell(KEYS, "k", b"1")
    world.tell(KEYS, "k", None)
    world.tell(KEYS, "k", b"1")
    first = dict(world.tables[KEYS])
    world.copies.save()
    world.clock.advance(2 * STALE_MS)

    world.start()
    world.tell(KEYS, "k", b"1")

    assert (first, world.loaded, world.tables[KEYS]) == ({}, 0, {})


def test_a_route_that_was_deleted_may_come_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tell(ROUTES, "ep", b"1")
    world.tell(ROUTES, "ep", None)
    world.tell(ROUTES, "ep", b"2")

    assert world.tables[ROUTES] == {"ep": b"2"}


def test_a_loss_of_what_was_never_known_is_none(tmp_path: Path) -> None:
    world = World(tmp_path)

    world.copies.loser(KEYS)("k")

    assert world.lost == []


def test_a_copy_that_was_changed_or_is_of_another_router_serves_nobody(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tell(KEYS, "a", b"1")
    world.copies.save()
    whole = Path(world.path).read_bytes()
    assert b'{"a": "1"}' in whole
    for changed in (whole.replace(b'"1"', b'"2"'), whole[:-1], whole.partition(b"\n")[2], b"", b"0" * 64 + b"\n{}"):
        Path(world.path).write_bytes(changed)
        world.start()
        assert (world.loaded, world.tables[KEYS]) == (0, {})

    Path(world.path).write_bytes(whole)
    world.secret = b"of another one"
    world.start()
    assert world.loaded == 0
    world.secret = b"of this router"
    world.start()
    assert world.tables[KEYS] == {"a": b"1"}


def test_a_copy_serves_for_an_hour_and_not_longer_nor_from_the_future(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tell(KEYS, "a", b"1")
    world.copies.save()
    for after_ms, loaded in ((STALE_MS, 1), (STALE_MS + 1, 0), (-1, 0)):
        world.clock = ManualClock(NOW + after_ms)
        world.start()
        assert world.loaded == loaded


def test_half_a_file_serves_nobody(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tell(KEYS, "k", b"1")
    world.copies.save()
    content = Path(world.path).read_bytes()
    Path(world.path).write_bytes(content[: len(content) // 2])

    world.start()

    assert (world.loaded, world.tables[KEYS]) == (0, {})


async def test_without_the_bus_a_copy_stays_as_old_as_it_is_unless_somebody_else_vouches_for_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tell(KEYS, "k", b"1")
    world.copies.save()

    async def later(*, is_told: bool) -> int:
        world.start()
        world.clock.advance(STALE_MS - MINUTE_MS)
        run = asyncio.create_task(world.copies.run(asyncio.Event(), lambda: is_told))
        deadline_s = time.monotonic() + WAIT_S
        while (
            is_told and time.monotonic() < deadline_s and f"{world.clock.now_ms()}" not in Path(world.path).read_text()
        ):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # Time enough to do the wrong thing; a machine without it sees nothing wrong.
        await end(run)
        world.clock.advance(2 * MINUTE_MS)
        world.start()
        return world.loaded

    assert (await later(is_told=True), await later(is_told=False)) == (1, 0)
