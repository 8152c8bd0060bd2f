"""The one transaction script of all six services.

Seen? stop. Load state and version, decide, and in one commit: state if the version is unchanged, journal, outbox,
inbox, counters, ledger, wake-up. Only then ack. A crash anywhere, and the same again: same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Generic, TypeVar

from pydantic import TypeAdapter

from libs.common.bus.port import bucket_delete, bucket_put
from libs.common.bus.streams import message_of
from libs.common.clock import Clock
from libs.common.decision import Decide, Decision, Give, Line, Take
from libs.common.deeds import deed_of, told_of
from libs.common.errors import Conflict, QuotaExceeded, Stale, Unavailable
from libs.common.events.envelope import Envelope, effect
from libs.common.events.event import Command, Event, Internal, Owner
from libs.common.ids import event_id
from libs.common.store.port import Attention, Entry, JournalRow, Record, Store, Transaction
from libs.common.written import Written

S = TypeVar("S")

NAMED_MAX: Final = 8  # Records named in one message.
STALE_RETRIES_MAX: Final = 16  # Writers of one record take turns; sixteen losses in a row means something is wrong.
PAGE: Final = 200  # Records read at once where all are wanted; bounds memory.


def its_subject(envelope: Envelope) -> Sequence[str]:
    """The key of the record that an event is about, where that is its subject."""
    return (envelope.subject,)


class Woke(Internal):
    """The clock reached the record's wake-up."""

    kind: ClassVar[str] = "internal.woke"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API  # Whoever owns the record; an internal event has no other reader.

    due_ms: int


@dataclass(frozen=True, slots=True)
class Owned(Generic[S]):
    """A kind of thing that a service owns: how it begins, what it hears, how it decides.

    `hears` maps each event class to the keys of the records it concerns; or to a part of it for each key, where a
    record decides on that alone, and remembers no more of it in its journal. `scope` and `label` make names unique;
    `attention` says how closely a reconciler follows it; `tenant` and `project`, in whose part of the audit it is.
    `audited` leaves of a state what the audit's digests may cover: nothing that tells a tenant how much others do.
    """

    kind: str
    state: type[S]
    empty: Callable[[str], S]
    decide: Decide[S]
    hears: Mapping[type[Event], Callable[[Envelope], Sequence[str] | Mapping[str, Event]]]
    scope: Callable[[S], str] = lambda _state: ""
    label: Callable[[S], str | None] = lambda _state: None
    attention: Callable[[S], Attention] = lambda _state: Attention.NONE
    tenant: Callable[[S], str] = lambda _state: ""
    project: Callable[[S], str] = lambda _state: ""
    audited: Callable[[S], S] | None = None


class Runner(Generic[S]):
    """Runs one kind of owned thing on a store. Two ways in: an event (`take`), or the clock (`waking.tick_all`)."""

    def __init__(self, owned: Owned[S], *, store: Store, clock: Clock) -> None:
        self.owned = owned
        self.store = store
        self.clock = clock
        self._written = Written(owned.state)

    def parts_of(self, envelope: Envelope) -> Sequence[tuple[str, Envelope]] | None:
        """The records it concerns, in the order that all keep, each with its part; None: this kind does not hear it."""
        hears = self.owned.hears.get(type(envelope.data))
        if hears is None:
            return None
        found = hears(envelope)
        if isinstance(found, Mapping):
            return [(key, replace(envelope, data=found[key])) for key in sorted(found)]
        return [(key, envelope) for key in found]

    def take(self, key: str, envelope: Envelope) -> S:
        """Apply an event at most once and return the state after it. Safe to call again with the same envelope.

        Raises Rejected (nothing changed, never will), Unavailable (nothing changed, try later).
        """
        return self.take_together([(key, envelope)])[0]

    def take_together(self, asked: Sequence[tuple[str, Envelope]]) -> tuple[S, ...]:
        """Apply events to several records, in this order and in ONE commit: all of it happened, or nothing.

        Raises as `take`. Whoever takes several names them in one order always, so that no two wait for each other.
        """
        return take_all([(self, key, envelope) for key, envelope in asked])

    def state(self, key: str) -> S | None:
        """The state as stored; None if there is no such record."""
        record = self.store.load(self.owned.kind, key)
        return self.parse(record) if record else None

    def states_of(self, keys: Sequence[str]) -> Mapping[str, S]:
        """The states of those of these records that there are, by key."""
        return {each.key: self.parse(each) for each in self.store.load_all(self.owned.kind, keys)}

    def parse(self, record: Record) -> S:
        """The state in a record."""
        return self._written.state(record.state)

    def states(self, *, scope: str | None = None, after: str = "", limit: int = 100) -> Sequence[S]:
        """States in order of their key."""
        return [self.parse(each) for each in self.store.page(self.owned.kind, scope=scope, after=after, limit=limit)]

    def every(self, *, scope: str | None = None) -> Iterator[S]:
        """All states in order of their key, read a page at a time."""
        page = self.store.page(self.owned.kind, scope=scope, limit=PAGE)
        while page:
            yield from map(self.parse, page)
            page = self.store.page(self.owned.kind, scope=scope, after=page[-1].key, limit=PAGE)

    def apply(self, unit: Transaction, key: str, envelope: Envelope) -> tuple[S, Record | None]:
        """Within a unit: the state after it, and the record before it; None for that if the event was taken before."""
        owned = self.owned
        # Seen before loaded: it waits for whoever takes the same event just now, and then we load what they left.
        seen = unit.seen(f"{owned.kind}/{key}", envelope.id)
        record = unit.load(owned.kind, key) or Record(owned.kind, key, state=b"")
        state = self.parse(record) if record.version else owned.empty(key)
        if seen:
            return state, None
        now_ms = self.clock.now_ms()
        decision = self._count(unit, owned.decide(state, envelope, now_ms))
        _enter(unit, decision.lines)
        self._tell(unit, record, decision, envelope, now_ms)
        unit.journal(_journal_row(owned.kind, key, record.version + 1, envelope, now_ms))
        unit.save(self._next(record, decision), was=record.version)
        return decision.state, record

    def seal(self, unit: Transaction, envelope: Envelope, record: Record, state: S) -> None:
        """Within a unit: write the command's row of the audit."""
        if (audited := self.owned.audited) is not None:
            state = audited(state)
            if record.version:
                record = replace(record, state=self._written.text(audited(self.parse(record))))
        deed = deed_of(
            envelope,
            record,
            tenant_id=self.owned.tenant(state),
            project_id=self.owned.project(state),
            after=self._written.text(state),
            now_ms=self.clock.now_ms(),
        )
        unit.enqueue(message_of(told_of(unit.seal(deed), envelope, record)))

    def _next(self, record: Record, decision: Decision[S]) -> Record:
        return Record(
            record.kind,
            record.key,
            state=self._written.text(decision.state),
            version=record.version + 1,
            sequence=record.sequence + len(decision.events),
            scope=self.owned.scope(decision.state),
            label=self.owned.label(decision.state),
            wake_at_ms=decision.wake_at_ms,
            attention=self.owned.attention(decision.state),
        )

    def _count(self, unit: Transaction, decision: Decision[S]) -> Decision[S]:
        """Move the counters; the decision that stands: the given one, or its `otherwise` if a counter refuses."""
        taken: list[Take] = []
        for change in decision.counters:
            if isinstance(change, Give):
                unit.give(change.counter, change.amount)
            elif unit.take(change.counter, change.amount, change.limit):
                taken.append(change)
            elif decision.otherwise is None:
                raise _over(change)
            else:
                assert not any(isinstance(each, Give) for each in decision.counters), "a give can't be undone exactly"
                for each in taken:
                    unit.give(each.counter, each.amount)
                return self._count(unit, decision.otherwise)
        return decision

    @staticmethod
    def _tell(unit: Transaction, record: Record, decision: Decision[S], cause: Envelope, now_ms: int) -> None:
        for index, data in enumerate(decision.events):
            told = effect(
                cause,
                data,
                teller=f"{record.kind}|{record.key}",
                subject=decision.about or record.key,
                index=index,
                generation=decision.generation,
                sequence=record.sequence + index + 1,
                now_ms=now_ms,
            )
            unit.enqueue(message_of(told))
        for put in decision.puts:
            put_id = event_id(cause.id, f"{put.bucket}|{put.key}", 0)
            if put.value is None:
                unit.enqueue(bucket_delete(bucket=put.bucket, key=put.key, id=put_id))
            else:
                unit.enqueue(bucket_put(bucket=put.bucket, key=put.key, value=put.value, id=put_id))


def take_all(asked: Sequence[tuple[Runner[Any], str, Envelope]]) -> tuple[Any, ...]:
    """Apply events to records of several kinds over one store, in this order and in ONE commit. Raises as `take`."""
    store = asked[0][0].store
    assert all(runner.store is store for runner, _, _ in asked), "one commit is of one store"
    for _ in range(STALE_RETRIES_MAX):
        try:
            with store.transaction() as unit:
                if len(asked) > 1:
                    unit.foresee([(runner.owned.kind, key, envelope.id) for runner, key, envelope in asked])
                applied = [(runner, envelope, *runner.apply(unit, key, envelope)) for runner, key, envelope in asked]
                for runner, envelope, state, before in applied:  # Last: all other writers of the audit wait from here.
                    if before is not None and isinstance(envelope.data, Command):
                        runner.seal(unit, envelope, before, state)
                return tuple(state for _, _, state, _ in applied)
        except Stale:
            continue
    named = ", ".join(f"{runner.owned.kind} {key}" for runner, key, _ in asked[:NAMED_MAX])
    raise Unavailable(f"{named} was written by others {STALE_RETRIES_MAX} times in a row")


def _enter(unit: Transaction, lines: Sequence[Line]) -> None:
    if not lines:
        return
    first = tuple(each for each in lines if not each.given)
    entries = tuple(map(_entry, first))
    conflicts = unit.enter_all(entries)
    by_entry = dict(zip(entries, first, strict=True)) if conflicts else {}
    instead: dict[Line, None] = {}
    for entry in conflicts:
        line = by_entry[entry]
        if line.otherwise is None:
            raise Conflict(f"entry {line.id} is in the ledger with other content", code="entry_conflict")
        instead[line.otherwise()] = None
    without = {(each.id, each.data) for each in conflicts}
    rest = (replace(each, given="") for each in lines if each.given and (each.given, each.data) not in without)
    _enter(unit, (*instead, *rest))


def _entry(line: Line) -> Entry:
    return Entry(line.id, line.account, line.meter, line.quantity, line.at_ms, line.data, line.labels)


def _over(take: Take) -> QuotaExceeded:
    message = f"{take.counter} would pass its limit of {take.limit}; free some or ask for a higher limit"
    return QuotaExceeded(message, counter=take.counter, wanted=take.amount, limit=take.limit)


def _journal_row(kind: str, key: str, version: int, cause: Envelope, now_ms: int) -> JournalRow:
    return JournalRow(
        kind=kind,
        key=key,
        version=version,
        at_ms=now_ms,
        cause_id=cause.id,
        cause_type=cause.type,
        cause=CAUSE.dump_json(_as_cause(cause)),
    )


def _as_cause(envelope: Envelope) -> dict[str, Any]:
    return {
        "data": envelope.data,
        "subject": envelope.subject,
        "time_ms": envelope.time_ms,
        "generation": envelope.generation,
        "sequence": envelope.sequence,
    }


CAUSE: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])
