"""What the store promises, whatever keeps it.

1. A transaction is all or nothing: record, journal, outbox, inbox, counters and entries together, or none of them.
2. A record is written only over the version that was read; otherwise Stale, and nothing changed.
3. An event is seen once: the second time `seen` says so, also after a crash.
4. A counter never passes its limit, however many take from it at once.
5. The outbox gives messages in the order in which they were committed, until they are marked as sent.
   Sent ones can be read again for days, so a reader with a position of its own misses none. What a key of a bucket was
   last set to can be read for ever.
6. The audit is one chain without a gap, in the order of commits, whoever writes to it at once.
7. `label` is unique among the records of a kind within a scope; Taken otherwise, and nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from libs.common.audit import Deed, Sealed
from libs.common.bus.port import Message
from libs.common.errors import Conflict


class Taken(Conflict):
    """Another live record of the kind has this label in this scope."""

    code = "name_taken"


class Attention(IntEnum):
    """How closely a reconciler follows a record."""

    NONE = 0
    WATCH = 1
    NOW = 2


@dataclass(frozen=True, slots=True)
class Record:
    """One owned thing. `state` is its JSON; `sequence` numbers what was told of it; version 0: not yet stored."""

    kind: str
    key: str
    state: bytes
    version: int = 0
    sequence: int = 0
    scope: str = ""
    label: str | None = None
    wake_at_ms: int | None = None
    attention: Attention = Attention.NONE


@dataclass(frozen=True, slots=True)
class Glance:
    """Of a record, what tells whether it must be looked at."""

    key: str
    version: int
    attention: Attention


@dataclass(frozen=True, slots=True)
class Due:
    """A record that wants to be woken, and when."""

    kind: str
    key: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit left to do: whether it put messages into the outbox, and the earliest wake-up that it set."""

    is_outgoing: bool = False
    wake_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class JournalRow:
    """What was decided on, when: the input as it came. Replaying a key's rows through `decide` gives its state."""

    kind: str
    key: str
    version: int
    at_ms: int
    cause_id: str
    cause_type: str
    cause: bytes
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a ledger: immutable, whole numbers only, one id once.

    A second entry with the same id and content is the same entry; with other content it is a Conflict. `labels` are
    what sums are told apart by beside account and meter, as text of the ledger's own making.
    """

    id: str
    account: str
    meter: str
    quantity: int
    at_ms: int
    data: bytes
    labels: str = ""


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum over the ledger entries of one account, meter, labels and interval, which begins at `start_ms`."""

    account: str
    meter: str
    labels: str
    start_ms: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Total:
    """A sum over ledger entries."""

    account: str
    meter: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that waits for the bus; `position` is its place in the order of commits."""

    position: int
    message: Message


@dataclass(frozen=True, slots=True)
class Told:
    """Messages of the outbox, and between which positions it can be read: what is behind `last` is still to come.

    What was told before `first` is forgotten. Both are 0 if there is nothing.
    """

    first: int
    last: int
    messages: Sequence[Outgoing]


class Transaction(Protocol):
    """One unit of work. Leaving it without an error commits."""

    def foresee(self, taken: Sequence[tuple[str, str, str]]) -> None:
        """Say which (kind, key, event id) are taken next, so that they are read and written as sets; no more than that.

        Each is asked of `seen` as the reader ``kind/key``, then loaded, and perhaps saved. No record twice.
        """

    def seen(self, reader: str, event_id: str) -> bool:
        """Whether ``reader`` took this event before; if not, it has now."""

    def load(self, kind: str, key: str) -> Record | None:
        """The record as stored; None if there is none."""

    def save(self, record: Record, *, was: int) -> None:
        """Store the record as version ``was + 1``. Raises Stale if the stored version is another, Taken for a label."""

    def journal(self, row: JournalRow) -> None:
        """Append to the journal."""

    def enqueue(self, message: Message) -> None:
        """Put a message into the outbox."""

    def take(self, counter: str, amount: int, limit: int) -> bool:
        """Add to a counter if the sum stays within ``limit``; False if not, and nothing changed."""

    def give(self, counter: str, amount: int) -> None:
        """Subtract from a counter; it never goes below zero."""

    def enter(self, entry: Entry) -> None:
        """Add an entry to the ledger. Raises Conflict if the id is there with other content; the unit can go on."""

    def enter_all(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Add entries to the ledger, and keep its sums; those not added because their id is there with other content.

        Of two entries with one id the first counts. Raises Stale if somebody else entered one of them meanwhile.
        """

    def seal(self, deed: Deed) -> Sealed:
        """Append to the audit. The last thing in a unit: from here to the commit all other writers of it wait."""


class Store(Protocol):
    """A service's own database."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a unit of work. Raises Unavailable if the database does not answer."""

    def listen(self, hear: Callable[[Committed], None]) -> None:
        """Tell ``hear`` of each commit from now on, in the thread that committed: it must be quick, and never fail.

        Of those of other processes it hears nothing.
        """

    def load(self, kind: str, key: str) -> Record | None:
        """Read one record outside any unit of work."""

    def load_all(self, kind: str, keys: Sequence[str]) -> Sequence[Record]:
        """Those of these records that there are, in order of their key."""

    def find(self, kind: str, *, scope: str, label: str) -> Record | None:
        """The record that has this label; None if there is none."""

    def page(self, kind: str, *, scope: str | None = None, after: str = "", limit: int = 100) -> Sequence[Record]:
        """Records of a kind in order of their key, those after ``after`` only, at most ``limit``."""

    def attended(self, kind: str, at_least: Attention, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Keys, in order, of the records that want this much attention or more; those after ``after`` only."""

    def glances(self, kind: str, at_least: Attention, *, after: str = "", limit: int = 1000) -> Sequence[Glance]:
        """The same records as `attended`, each with its version and attention, without their states."""

    def due(self, kinds: Sequence[str], until_ms: int, limit: int) -> Sequence[Due]:
        """The records of these kinds whose wake-up has come by then, earliest first."""

    def pending(self, limit: int) -> Sequence[Outgoing]:
        """The oldest messages of the outbox that are not marked as sent, in order."""

    def mark_sent(self, positions: Sequence[int]) -> None:
        """The bus has these."""

    def puts(self, *, after: str = "", limit: int = 1000) -> Sequence[Message]:
        """What each key of a bucket was last set to, in order of subject; not those that were deleted."""

    def told(self, *, after: int, limit: int = 1000) -> Told:
        """The outbox in order of commits, sent or not, from behind ``after``: who goes on from there misses nothing."""

    def counter(self, name: str) -> int:
        """The value of a counter; 0 if it was never taken from."""

    def journal_rows(self, *, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        """The journal in order of commits, from behind ``after``."""

    def entries(
        self, *, account: str | None = None, from_ms: int = 0, to_ms: int | None = None, limit: int = 1000
    ) -> Sequence[Entry]:
        """Ledger entries by time, half-open ``[from_ms, to_ms)``."""

    def deeds(
        self, *, tenant_id: str | None = None, project_id: str | None = None, after: int = 0, limit: int = 1000
    ) -> Sequence[Sealed]:
        """The audit in its order, from behind row ``after``; of one tenant, by its own numbers, if one is given."""

    def sums(
        self,
        *,
        from_ms: int,
        to_ms: int,
        under: str | None = None,
        accounts: Sequence[str] | None = None,
        every_ms: int | None = None,
    ) -> Sequence[Sum]:
        """Exact sums of ledger entries over ``[from_ms, to_ms)``, by account, meter, labels and interval, so ordered.

        ``under``: of this account and those below it (``under/…``). ``accounts``: of these alone, and then no other
        account's entries are looked at. ``every_ms``: intervals of this length; without, one, which begins at 0. Whole
        days and hours are read from sums that every entry was added to in its commit.
        """

    def entries_of(self, ids: Sequence[str]) -> Sequence[Entry]:
        """The ledger entries that have one of these ids, in order of their id; a few hundred at most."""

    def totals(self, *, from_ms: int, to_ms: int, account: str | None = None) -> Sequence[Total]:
        """Sums of ledger entries over ``[from_ms, to_ms)``, by account and meter, in that order."""

    def prune(self, now_ms: int) -> int:
        """Forget what no repeat can ask for any more: old inbox rows, old sent messages; how many went."""

    def close(self) -> None:
        """Give back connections."""
