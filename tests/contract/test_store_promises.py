"""One promise suite over every store there is, and proof that each promise can be broken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import pytest

from libs.common.audit import Deed, Sealed
from libs.common.bus.port import Message
from libs.common.store.database import Database
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Entry, Outgoing, Record, Store, Transaction
from libs.common.store.sql import SqlStore
from libs.common.units import HOUR_MS
from tests.contract import store_promises as promises
from tests.support.postgres import Postgres

TOO_MANY: Final = 11  # One more than the limit of the promise that it breaks.
MEET_S: Final = 60.0


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new, empty store of each kind."""
    if request.param == "memory":
        made: Store = MemoryStore()
    elif request.param == "sqlite":
        made = SqlStore(f"sqlite:///{tmp_path}/store.db")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        made = SqlStore(server.new())
    yield made
    made.close()


@pytest.mark.parametrize("promise", promises.PROMISES, ids=lambda each: each.__name__)
def test_a_store_keeps_its_promise(promise: Callable[[Store], None], store: Store) -> None:
    promise(store)


class Faulty:
    """A store that does as another does but for its one fault, which is in its unit of work unless said otherwise."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._inner.transaction() as unit:
            yield self.worsened(unit)

    def worsened(self, unit: Transaction) -> Any:
        return unit


class Worse:
    """A unit of work that does as another does."""

    def __init__(self, unit: Transaction, store: Store) -> None:
        self._unit = unit
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unit, name)


class IgnoresWas(Faulty):
    """Writes over any version."""

    class Unit(Worse):
        def save(self, record: Record, *, was: int) -> None:
            stored = self._unit.load(record.kind, record.key)
            self._unit.save(record, was=stored.version if stored else 0)

    def worsened(self, unit: Transaction) -> Any:
        return self.Unit(unit, self._inner)


class ForgetsTheInbox(Faulty):
    """Commits everything but what was seen."""

    class Unit(Worse):
        def __init__(self, unit: Transaction, store: Store) -> None:
            super().__init__(unit, store)
            self._seen: set[tuple[str, str]] = set()

        def seen(self, reader: str, event_id: str) -> bool:
            known = (reader, event_id) in self._seen
            self._seen.add((reader, event_id))
            return known

    def worsened(self, unit: Transaction) -> Any:
        return self.Unit(unit, self._inner)


class ForgetsLabels(Faulty):
    """Lets anybody have any name."""

    class Unit(Worse):
        def save(self, record: Record, *, was: int) -> None:
            self._unit.save(replace(record, label=None), was=was)

    def worsened(self, unit: Transaction) -> Any:
        return self.Unit(unit, self._inner)


class OverwritesTheLedger(Faulty):
    """Takes no second look at an entry it knows by id."""

    class Unit(Worse):
        def enter(self, entry: Entry) -> None:
            if all(each.id != entry.id for each in self._store.entries()):
                self._unit.enter(entry)

    def worsened(self, unit: Transaction) -> Any:
        return self.Unit(unit, self._inner)


class ForgetsOneEnd(Faulty):
    """Sums whole hours only."""

    def sums(self, *, from_ms: int, to_ms: int, **given: Any) -> Any:
        return self._inner.sums(from_ms=from_ms, to_ms=to_ms - to_ms % HOUR_MS, **given)


class SumsBelowToo(Faulty):
    """Takes accounts that are asked for alone for the beginnings of others."""

    def sums(self, *, accounts: Sequence[str] | None = None, **given: Any) -> Any:
        found = self._inner.sums(**given)
        return found if accounts is None else [each for each in found if each.account.startswith(tuple(accounts))]


class ReadsTheFirst(Faulty):
    """Of several records reads one."""

    def load_all(self, kind: str, keys: Sequence[str]) -> Any:
        return self._inner.load_all(kind, keys)[:1]


class EntersWhatConflicts(Faulty):
    """Says of no entry of a batch that its id was there."""

    class Unit(Worse):
        def enter_all(self, entries: Sequence[Entry]) -> Sequence[Entry]:
            self._unit.enter_all(entries)
            return []

    def worsened(self, unit: Transaction) -> Any:
        return self.Unit(unit, self._inner)


class LosesWhatIsShared(Faulty):
    """Gives the content of an entry only with the one that holds it."""

    def entries_of(self, ids: Sequence[str]) -> Sequence[Entry]:
        found = self._inner.entries_of(ids)
        held = {each.data: each.id for each in reversed(self._inner.entries())}
        return [each if held[each.data] == each.id else replace(each, data=b"") for each in found]


class ForeseesWithoutLooking(Faulty):
    """Takes all that is foreseen for new."""

    class Unit(Worse):
        def foresee(self, taken: Sequence[tuple[str, str, str]]) -> None:
            self._foreseen = {(f"{kind}/{key}", event_id) for kind, key, event_id in taken}

        def seen(self, reader: str, event_id: str) -> bool:
            return self._unit.seen(reader, event_id) and (reader, event_id) not in getattr(self, "_foreseen", ())

    def worsened(self, unit: Transaction) -> Any:
        return self.Unit(unit, self._inner)


class ForgetsTheTenant(Faulty):
    """Has one chain for all."""

    class Unit(Worse):
        def seal(self, deed: Deed) -> Sealed:
            return self._unit.seal(replace(deed, tenant_id=""))

    def worsened(self, unit: Transaction) -> Any:
        return self.Unit(unit, self._inner)


class PublishesBeforeItCommits(Faulty):
    """Has messages in the outbox of a unit that failed later."""

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        early: list[Message] = []
        try:
            with self._inner.transaction() as unit:
                worse = Worse(unit, self._inner)
                worse.enqueue = early.append  # type: ignore[attr-defined]  # The fault.
                yield worse
        finally:
            with self._inner.transaction() as own:
                for message in early:
                    own.enqueue(message)


class ChecksThenActs(Faulty):
    """Reads a counter first and adds to it when the unit ends: right, as long as nobody else does.

    Who has read waits until too many have: on a busy machine they might take turns.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._have_read, self._meeting = 0, threading.Condition()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        unit = self.Unit(self._inner)
        yield unit
        with self._meeting:
            self._have_read += 1
            self._meeting.notify_all()
            self._meeting.wait_for(lambda: self._have_read >= TOO_MANY, MEET_S)
        with self._inner.transaction() as real:
            for counter, amount in unit.taken:
                real.take(counter, amount, 2**60)

    class Unit:
        def __init__(self, store: Store) -> None:
            self._store = store
            self.taken: list[tuple[str, int]] = []

        def take(self, counter: str, amount: int, limit: int) -> bool:
            if self._store.counter(counter) + amount > limit:
                return False
            self.taken.append((counter, amount))
            return True


class ReadsTheOutboxByCursor(Faulty):
    """Remembers the last position it gave and goes on behind it (reliability.md L14)."""

    _last = 0

    def pending(self, limit: int) -> Sequence[Outgoing]:
        found = [each for each in self._inner.pending(10_000) if each.position > self._last][:limit]
        self._last = max([self._last, *(each.position for each in found)])
        return found


class GivesTheNewestFirst(Faulty):
    """Has an outbox that is a stack."""

    def pending(self, limit: int) -> Sequence[Outgoing]:
        return list(reversed(self._inner.pending(limit)))


class RemembersTheDeleted(Faulty):
    """Has what was deleted from buckets come back."""

    class Unit(Worse):
        def enqueue(self, message: Message) -> None:
            if message.body:
                self._unit.enqueue(message)

    def worsened(self, unit: Transaction) -> Any:
        return self.Unit(unit, self._inner)


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        (PublishesBeforeItCommits, promises.a_unit_that_fails_leaves_nothing),
        (ForgetsTheInbox, promises.a_unit_that_ends_leaves_everything),
        (IgnoresWas, promises.a_record_is_written_only_over_the_version_that_was_read),
        (ForgetsTheInbox, promises.an_event_is_seen_once),
        (ChecksThenActs, promises.a_counter_never_passes_its_limit_among_many),
        (GivesTheNewestFirst, promises.the_outbox_gives_in_order_until_marked),
        (RemembersTheDeleted, promises.what_a_key_was_last_set_to_can_be_read_for_ever),
        (ForgetsLabels, promises.a_label_is_unique_in_its_scope),
        (OverwritesTheLedger, promises.a_ledger_entry_is_itself_for_ever),
        (EntersWhatConflicts, promises.entries_in_a_batch_land_once_and_those_with_other_content_are_told),
        (LosesWhatIsShared, promises.what_entries_share_is_there_with_each_of_them),
        (ForeseesWithoutLooking, promises.a_set_of_records_is_taken_as_one_after_the_other),
        (IgnoresWas, promises.a_set_with_a_record_at_another_version_changes_nothing),
        (ForgetsOneEnd, promises.sums_are_exact_over_any_half_open_time),
        (SumsBelowToo, promises.sums_are_exact_over_any_half_open_time),
        (ReadsTheFirst, promises.a_stored_record_is_as_it_was_given),
        (ForgetsTheTenant, promises.the_audit_is_one_chain_among_many),
    ],
    ids=lambda each: each.__name__,
)
def test_a_planted_fault_is_caught(fault: type[Faulty], broken: Callable[[Store], None], tmp_path: Path) -> None:
    assert broken in promises.PROMISES, "or nobody says that a right store keeps it"
    wrong = SqlStore(f"sqlite:///{tmp_path}/wrong.db")

    with pytest.raises(AssertionError):
        broken(cast(Store, fault(wrong)))
    wrong.close()


@pytest.mark.parametrize("promise", promises.MANY_WRITERS, ids=lambda each: each.__name__)
def test_postgresql_keeps_the_promises_of_many_writers(promise: Callable[[Store], None], postgres: Postgres) -> None:
    store = SqlStore(postgres.new())

    promise(store)
    store.close()


def test_an_outbox_read_by_cursor_is_caught(postgres: Postgres) -> None:
    store = SqlStore(postgres.new())

    with pytest.raises(AssertionError):
        promises.a_message_that_commits_late_is_still_given(cast(Store, ReadsTheOutboxByCursor(store)))
    store.close()


def test_a_journal_that_waits_for_nobody_is_caught(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "settled", lambda self, _table: self.reading())
    store = SqlStore(postgres.new())

    with pytest.raises(AssertionError):
        promises.a_row_that_commits_late_is_still_read(store)
    store.close()
