"""The audit: a good ledger has no difference, and each way to spoil one is found."""

from __future__ import annotations

from dataclasses import replace

from libs.common.store.port import Entry
from services.metering.core.audit import Check
from services.metering.core.windows import Windows
from services.metering.shell.audit import audit, windows_of
from services.metering.shell.watch import look
from tests.unit.metering.world import (
    ENDPOINT,
    ROOT,
    T0,
    WINDOWS,
    World,
    batch,
    live,
    requested,
    usage,
)


def test_the_audit_finds_a_line_that_no_window_told() -> None:
    world = World()
    live(world, lambda world, event: world.hear(event))
    world.store.ledger["stray"] = Entry("stray", f"acme/main/{ENDPOINT}", "requests", 1, T0, b"{}")

    (difference,) = audit(world.store, windows=WINDOWS)

    assert (difference.check, difference.ledger - difference.other) == (Check.WINDOW, 1)


def test_the_audit_finds_held_time_that_was_not_booked_or_changed() -> None:
    world = World()
    live(world, lambda world, event: world.hear(event))
    line = next(each for each in world.store.ledger.values() if each.meter == "gpu_ms")
    world.store.ledger[line.id] = replace(line, quantity=line.quantity + 1)

    assert {each.check for each in audit(world.store, windows=WINDOWS)} == {Check.WINDOW, Check.HELD}


def test_the_audit_finds_sums_that_are_not_those_of_the_lines() -> None:
    class Wrong(type(World().store)):  # type: ignore[misc]
        def sums(self, **_given: object) -> list[object]:
            return []

    world = World()
    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(20)
    wrong = Wrong()
    wrong.ledger, wrong.records = world.store.ledger, world.store.records

    assert {each.check for each in audit(wrong, windows=WINDOWS)} == {Check.TOTAL}


def test_a_running_process_audits_what_settled() -> None:
    world = World()
    live(world, lambda world, event: world.hear(event))

    assert look(world.store, world.clock, WINDOWS, span_ms=3_600_000) == ()
    world.store.ledger["stray"] = Entry("stray", f"acme/main/{ENDPOINT}", "requests", 1, T0, b"{}")
    assert len(look(world.store, world.clock, WINDOWS, span_ms=3_600_000)) == 1


def test_a_running_process_has_lines_added_up_where_they_are() -> None:
    class Unread(type(World().store)):  # type: ignore[misc]
        def entries(self, **given: object) -> list[Entry]:
            raise AssertionError(f"lines were read: {given}")

    world = World()
    live(world, lambda world, event: world.hear(event))
    unread = Unread()
    unread.ledger, unread.records = world.store.ledger, world.store.records

    assert look(unread, world.clock, WINDOWS, span_ms=3_600_000) == ()


def test_what_waits_to_be_told_is_not_audited_but_for_no_longer_than_a_span() -> None:
    world = World()
    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(120)

    world.hear(batch([usage("r2")], boot_seq=2))  # A backlog, of a window that was told.

    assert look(world.store, world.clock, WINDOWS, span_ms=3_600_000) == ()
    assert len(audit(world.store, windows=WINDOWS)) == 3
    with world.store.transaction() as unit:
        unit.enter(Entry("l", ROOT, "requests", 7, T0 + 60_000, b"{}"))
    assert len(look(world.store, world.clock, WINDOWS, span_ms=60_000)) == 1


def test_an_audit_knows_how_a_store_cuts_its_windows() -> None:
    world = World()
    assert windows_of(world.store) == Windows()

    world.hear(requested(), batch([usage("r1")]))
    world.pass_time(20)

    assert windows_of(world.store).size_ms == WINDOWS.size_ms
