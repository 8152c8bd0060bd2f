"""The promises of a store, each as a plain function that raises AssertionError where a new, empty store breaks it."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import Final

from libs.common.audit import Deed, flaws
from libs.common.bus.port import Message, bucket_delete, bucket_put
from libs.common.errors import Conflict, Stale
from libs.common.store.port import (
    Attention,
    Committed,
    Due,
    Entry,
    Glance,
    JournalRow,
    Record,
    Store,
    Taken,
    Total,
    Transaction,
)
from tests.support.threads import persistently, together


class Boom(Exception):
    """What a unit of work is left with in these tests."""


def a_record(key: str = "ep-1", **changes: object) -> Record:
    return replace(Record("endpoint", key, b'{"n":1}', scope="t-1"), **changes)  # type: ignore[arg-type]  # As given.


def a_message(id: str, body: bytes = b"{}") -> Message:
    return Message(id, "MR_EVT", f"mr.v1.evt.endpoint-api.x.p00.{id}", body, {"ce-id": id, "ce-odd": 'ü "quoted"'})


def an_entry(id: str, **changes: object) -> Entry:
    entry = Entry(id, "t-1/p-1", "completion_tokens", 7, 1_000, b'{"a":1}')
    return replace(entry, **changes)  # type: ignore[arg-type]  # As given.


def a_row(cause: str, key: str = "ep-1", version: int = 1) -> JournalRow:
    return JournalRow("endpoint", key, version, 5, cause, "x.v1", b"{}")


def a_deed(tenant: str, target: str) -> Deed:
    project = f"p-{target[-1]}"
    return Deed(1_000, tenant, "key:abcdefghij", "create_endpoint", target, "req-ü", "", "f00d", project)


def save(store: Store, *records: Record) -> None:
    """Store records over whatever is there."""
    with store.transaction() as unit:
        for record in records:
            stored = unit.load(record.kind, record.key)
            unit.save(record, was=stored.version if stored else 0)


def refuses(error: type[Exception], store: Store, work: Callable[[Transaction], None]) -> None:
    """Whether a unit that does ``work`` is left with ``error``."""
    try:
        with store.transaction() as unit:
            work(unit)
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def everything(unit: Transaction) -> None:
    """One of each."""
    assert not unit.seen("reader", "e-1")
    unit.save(a_record(label="chat", wake_at_ms=5), was=0)
    unit.journal(a_row("e-1"))
    unit.enqueue(a_message("m-1"))
    assert unit.take("gpus", 3, 10)
    unit.enter(an_entry("l-1"))


def has_everything(store: Store) -> bool:
    """Whether all that `everything` does is there. Raises AssertionError if only a part is."""
    with store.transaction() as unit:
        parts = {
            "inbox": unit.seen("reader", "e-1"),
            "record": store.load("endpoint", "ep-1") is not None,
            "journal": [row.cause_id for row in store.journal_rows()] == ["e-1"],
            "outbox": [each.message for each in store.pending(10)] == [a_message("m-1")],
            "counter": store.counter("gpus") == 3,
            "ledger": store.entries() == [an_entry("l-1")],
            "label": store.find("endpoint", scope="t-1", label="chat") is not None,
            "wake-up": store.due(["endpoint"], 5, 10) == [Due("endpoint", "ep-1", 5)],
        }
    assert len(set(parts.values())) == 1, f"only a part is there: {parts}"
    return parts["record"]


def a_unit_that_ends_leaves_everything(store: Store) -> None:
    with store.transaction() as unit:
        everything(unit)

    assert has_everything(store)


def a_unit_that_fails_leaves_nothing(store: Store) -> None:
    def fail(unit: Transaction) -> None:
        everything(unit)
        raise Boom

    refuses(Boom, store, fail)

    assert not has_everything(store)
    assert store.journal_rows() == []
    assert store.pending(10) == []
    assert store.entries() == []


def a_stored_record_is_as_it_was_given(store: Store) -> None:
    first = a_record("ep-ü", label="chat", wake_at_ms=9, attention=Attention.NOW, sequence=3)
    second = a_record("ep-2", state=b"\x00\xff", scope="")

    save(store, first, second)

    assert store.load("endpoint", "ep-ü") == replace(first, version=1)
    assert store.load("endpoint", "ep-2") == replace(second, version=1)
    assert store.load("endpoint", "ep-3") is None
    assert store.load("claim", "ep-2") is None
    found = store.load_all("endpoint", ["ep-3", "ep-ü", "ep-2", "ep-ü"])
    assert found == [replace(second, version=1), replace(first, version=1)]
    with store.transaction() as unit:
        assert unit.load("endpoint", "ep-ü") == replace(first, version=1)


def a_record_is_written_only_over_the_version_that_was_read(store: Store) -> None:
    save(store, a_record())
    save(store, a_record(state=b"newer"))

    refuses(Stale, store, lambda unit: unit.save(a_record(state=b"late"), was=0))
    refuses(Stale, store, lambda unit: unit.save(a_record(state=b"late"), was=1))
    refuses(Stale, store, lambda unit: unit.save(a_record(state=b"early"), was=3))
    refuses(Stale, store, lambda unit: unit.save(a_record("ep-9"), was=1))

    assert store.load("endpoint", "ep-1") == a_record(state=b"newer", version=2)
    assert store.load("endpoint", "ep-9") is None


def no_write_is_lost_among_many_writers(store: Store) -> None:
    def add_one(_index: int) -> None:
        def attempt() -> None:
            with store.transaction() as unit:
                stored = unit.load("endpoint", "ep-1") or a_record(state=b"0")
                unit.save(replace(stored, state=b"%d" % (int(stored.state) + 1)), was=stored.version)

        for _ in range(4):
            persistently(attempt)

    together(16, add_one)

    stored = store.load("endpoint", "ep-1")
    assert stored is not None
    assert (stored.state, stored.version) == (b"64", 64)


def an_event_is_seen_once(store: Store) -> None:
    with store.transaction() as unit:
        assert not unit.seen("endpoint/ep-1", "e-1")
        assert unit.seen("endpoint/ep-1", "e-1")
        assert not unit.seen("endpoint/ep-2", "e-1")

    with store.transaction() as unit:
        assert unit.seen("endpoint/ep-1", "e-1")
        assert unit.seen("endpoint/ep-2", "e-1")
        assert not unit.seen("endpoint/ep-1", "e-2")


def an_event_of_a_unit_that_failed_was_not_seen(store: Store) -> None:
    def fail(unit: Transaction) -> None:
        unit.seen("endpoint/ep-1", "e-1")
        raise Boom

    refuses(Boom, store, fail)

    with store.transaction() as unit:
        assert not unit.seen("endpoint/ep-1", "e-1")


def an_event_is_seen_once_by_many(store: Store) -> None:
    def look(_index: int) -> bool:
        with store.transaction() as unit:
            return unit.seen("endpoint/ep-1", "e-1")

    assert together(16, look).count(False) == 1


def a_counter_keeps_its_limit(store: Store) -> None:
    with store.transaction() as unit:
        assert unit.take("gpus", 8, 10)
        assert not unit.take("gpus", 3, 10)
        assert unit.take("gpus", 2, 10)
        assert not unit.take("other", 11, 10)
    assert store.counter("gpus") == 10

    with store.transaction() as unit:
        unit.give("gpus", 4)
        unit.give("never taken", 4)
        assert unit.take("gpus", 4, 10)
        unit.give("gpus", 99)

    assert store.counter("gpus") == 0
    assert store.counter("never taken") == 0
    assert store.counter("other") == 0


def a_counter_never_passes_its_limit_among_many(store: Store) -> None:
    def take_one(_index: int) -> bool:
        def attempt() -> bool:
            with store.transaction() as unit:
                return unit.take("gpus", 1, 10)

        return persistently(attempt)

    assert together(64, take_one).count(True) == 10
    assert store.counter("gpus") == 10


def the_outbox_gives_in_order_until_marked(store: Store) -> None:
    for first, second in (("a", "b"), ("c", "d")):
        with store.transaction() as unit:
            unit.enqueue(a_message(first))
            unit.enqueue(a_message(second))
    pending = store.pending(3)
    assert [each.message for each in pending] == [a_message(id) for id in "abc"]

    store.mark_sent([pending[1].position])
    assert [each.message.id for each in store.pending(10)] == ["a", "c", "d"]

    store.mark_sent([each.position for each in store.pending(10)])
    store.mark_sent([pending[0].position, 10**9])
    store.mark_sent([])
    assert store.pending(10) == []


WRITERS: Final = 32
UNITS: Final = 12
KEYS: Final = 8


def the_outbox_loses_nothing_among_many_writers(store: Store) -> None:
    """Many write while a relay reads: each message comes out once, and those of one record in the record's order."""
    sent: list[str] = []
    done = threading.Event()

    def write(index: int) -> None:
        key = f"ep-{index % KEYS}"

        def attempt() -> None:
            with store.transaction() as unit:
                stored = unit.load("endpoint", key) or a_record(key)
                unit.enqueue(a_message(f"{key}/{stored.version + 1}"))
                unit.save(stored, was=stored.version)

        for _ in range(UNITS):
            persistently(attempt)

    def relay() -> None:
        while True:
            last = done.is_set()
            pending = persistently(lambda: store.pending(50))
            sent.extend(each.message.id for each in pending)
            persistently(partial(store.mark_sent, [each.position for each in pending]))
            if last and not pending:
                return

    relaying = threading.Thread(target=relay)
    relaying.start()
    try:
        together(WRITERS, write)
    finally:
        done.set()
        relaying.join()

    for key in (f"ep-{number}" for number in range(KEYS)):
        versions = [int(id.split("/")[1]) for id in sent if id.startswith(f"{key}/")]
        assert versions == list(range(1, WRITERS // KEYS * UNITS + 1)), key


def a_label_is_unique_in_its_scope(store: Store) -> None:
    save(store, a_record(label="chat"))
    save(store, a_record("ep-2", label=None))

    refuses(Taken, store, lambda unit: unit.save(a_record("ep-3", label="chat"), was=0))
    refuses(Taken, store, lambda unit: unit.save(a_record("ep-2", label="chat"), was=1))
    save(store, a_record("ep-3", label="chat", scope="t-2"), a_record("ep-4", label=None), a_record("ep-1", label="x"))
    save(store, a_record("ep-2", label="chat"))

    found = store.find("endpoint", scope="t-1", label="chat")
    assert found == a_record("ep-2", label="chat", version=2)
    assert store.find("endpoint", scope="t-3", label="chat") is None


def a_label_moves_within_one_unit(store: Store) -> None:
    save(store, a_record(label="chat"))

    save(store, a_record(label=None), a_record("ep-2", label="chat"))
    refuses(Taken, store, lambda unit: _save_two(unit, "twice"))

    found = store.find("endpoint", scope="t-1", label="chat")
    assert found is not None
    assert found.key == "ep-2"
    assert store.find("endpoint", scope="t-1", label="twice") is None


def _save_two(unit: Transaction, label: str) -> None:
    unit.save(a_record("ep-8", label=label), was=0)
    unit.save(a_record("ep-9", label=label), was=0)


def a_label_is_taken_once_among_many(store: Store) -> None:
    def claim(index: int) -> bool:
        try:
            with store.transaction() as unit:
                unit.enqueue(a_message(f"m-{index}"))
                unit.save(a_record(f"ep-{index}", label="chat"), was=0)
        except Taken:
            return False
        return True

    assert together(16, claim).count(True) == 1
    assert len(store.page("endpoint")) == 1
    assert len(store.pending(100)) == 1


def a_ledger_entry_is_itself_for_ever(store: Store) -> None:
    with store.transaction() as unit:
        unit.enter(an_entry("l-1"))
        unit.enter(an_entry("l-1"))
    with store.transaction() as unit:
        unit.enter(an_entry("l-1"))

    refuses(Conflict, store, lambda unit: unit.enter(an_entry("l-1", quantity=8)))
    with store.transaction() as unit:  # As a decision with an `otherwise` does: the unit can go on.
        try:
            unit.enter(an_entry("l-1", data=b"other"))
        except Conflict:
            unit.enter(an_entry("l-2", quantity=-7))

    assert store.entries() == [an_entry("l-1"), an_entry("l-2", quantity=-7)]


def entries_in_a_batch_land_once_and_those_with_other_content_are_told(store: Store) -> None:
    with store.transaction() as unit:
        assert unit.enter_all([an_entry("l-1"), an_entry("l-2"), an_entry("l-1")]) == []
    with store.transaction() as unit:
        other = an_entry("l-1", quantity=8)
        assert unit.enter_all([other, an_entry("l-3"), an_entry("l-2"), an_entry("l-3", quantity=9)]) == [
            other,
            an_entry("l-3", quantity=9),
        ]

    assert [each.id for each in store.entries()] == ["l-1", "l-2", "l-3"]
    assert store.entries_of(["l-2", "none", "l-1", "l-2"]) == [an_entry("l-1"), an_entry("l-2")]
    assert store.entries_of([]) == []
    assert sum(each.quantity for each in store.sums(from_ms=0, to_ms=2**50)) == 3 * an_entry("l-1").quantity


def what_entries_share_is_there_with_each_of_them(store: Store) -> None:
    content, other = b"x" * 200, b"y" * 200
    entries = [an_entry(f"l-{number}", data=content, at_ms=1_000 + number // 3) for number in range(5)]
    entries += [an_entry("l-5", data=other, at_ms=1_001), an_entry("l-6", data=content, at_ms=1_001)]
    with store.transaction() as unit:
        assert unit.enter_all(entries) == []
        assert unit.enter_all([replace(entries[1], data=other)]) == [replace(entries[1], data=other)]
    with store.transaction() as unit:
        assert unit.enter_all([*entries, an_entry("l-7", data=content)]) == []

    assert store.entries_of(["l-1"]) == [entries[1]]
    assert store.entries_of([f"l-{number}" for number in range(7)]) == entries
    assert store.entries(from_ms=1_001) == entries[3:]


def a_set_of_records_is_taken_as_one_after_the_other(store: Store) -> None:
    save(store, a_record("ep-1"), a_record("ep-2"), a_record("ep-3", label="x"))
    with store.transaction() as unit:
        unit.seen("endpoint/ep-2", "e-1")
    keys = ["ep-0", "ep-1", "ep-2", "ep-3"]

    with store.transaction() as unit:
        unit.foresee([("endpoint", key, "e-1") for key in keys])
        assert [unit.seen(f"endpoint/{key}", "e-1") for key in keys] == [False, False, True, False]
        found = {key: unit.load("endpoint", key) for key in keys}
        assert [None if each is None else each.version for each in found.values()] == [None, 1, 1, 1]
        unit.save(a_record("ep-0"), was=0)
        unit.save(a_record("ep-1", state=b"2"), was=1)
        unit.save(a_record("ep-3", state=b"3", label="y"), was=1)
        unit.journal(a_row("e-1", "ep-0"))
        unit.enqueue(a_message("m-1"))
        unit.journal(a_row("e-1", "ep-1", 2))
        unit.enqueue(a_message("m-2"))

    assert [(each.key, each.version, each.state) for each in store.page("endpoint")] == [
        ("ep-0", 1, b'{"n":1}'),
        ("ep-1", 2, b"2"),
        ("ep-2", 1, b'{"n":1}'),
        ("ep-3", 2, b"3"),
    ]
    assert store.find("endpoint", scope="t-1", label="y") is not None
    assert [each.key for each in store.journal_rows()] == ["ep-0", "ep-1"]
    assert [each.message.id for each in store.pending(10)] == ["m-1", "m-2"]
    with store.transaction() as unit:
        assert all(unit.seen(f"endpoint/{key}", "e-1") for key in keys)


def a_set_with_a_record_at_another_version_changes_nothing(store: Store) -> None:
    save(store, a_record("ep-1"), a_record("ep-2"))

    def work(unit: Transaction) -> None:
        unit.foresee([("endpoint", key, "e-1") for key in ("ep-1", "ep-2")])
        for key, was in (("ep-1", 1), ("ep-2", 7)):
            unit.seen(f"endpoint/{key}", "e-1")
            unit.load("endpoint", key)
            unit.save(a_record(key, state=b"2"), was=was)

    refuses(Stale, store, work)

    assert [each.version for each in store.page("endpoint")] == [1, 1]
    with store.transaction() as unit:
        assert not unit.seen("endpoint/ep-1", "e-1")


def sums_are_exact_over_any_half_open_time(store: Store) -> None:
    hour, day = 3_600_000, 24 * 3_600_000
    times = [
        0,
        1,
        hour - 1,
        hour,
        hour + 5,
        3 * hour - 1,
        3 * hour,
        7 * hour + 3,
        day - 1,
        day,
        day + 2 * hour,
        3 * day,
    ]
    accounts = ["t/a", "t/a/x", "t", "t0", "t/a", "t/a/x", "t/a", "t-1", "t/a", "t", "t/a/x", "t/a"]
    entries = [
        an_entry(f"l-{at_ms}", at_ms=at_ms, quantity=10**number, account=account, labels="m" * (number % 2))
        for number, (at_ms, account) in enumerate(zip(times, accounts, strict=True))
    ]
    with store.transaction() as unit:
        unit.enter_all(entries[:5])
        unit.enter_all(entries[3:])

    begins, ends = [0, 1, hour, hour + 5, 2 * hour, day], [1, hour, 8 * hour, day, day + hour, 3 * day + 1, 2**50]
    for from_ms, to_ms in itertools.product(begins, ends):
        within = [each for each in entries if from_ms <= each.at_ms < to_ms]
        for under, of_it in ((None, set(accounts)), ("t", {"t", "t/a", "t/a/x"}), ("t/a", {"t/a", "t/a/x"})):
            wanted = [each for each in within if each.account in of_it]
            found = store.sums(from_ms=from_ms, to_ms=to_ms, under=under)
            assert sum(each.quantity for each in found) == sum(each.quantity for each in wanted)
            places = [(each.account, each.meter, each.labels) for each in found]
            assert places == sorted({(each.account, each.meter, each.labels) for each in wanted})
        alone = store.sums(from_ms=from_ms, to_ms=to_ms, accounts=["t/a", "t0", "t/none"])
        assert sum(each.quantity for each in alone) == sum(
            each.quantity for each in within if each.account in ("t/a", "t0")
        )
        for every_ms in (1000, hour, 2 * hour, day):
            by_start = Counter[int]()
            for each in store.sums(from_ms=from_ms, to_ms=to_ms, every_ms=every_ms):
                by_start[each.start_ms] += each.quantity
            expected = Counter[int]()
            for entry in within:
                expected[entry.at_ms // every_ms * every_ms] += entry.quantity
            assert by_start == expected


def totals_are_sums_over_a_half_open_time(store: Store) -> None:
    with store.transaction() as unit:
        unit.enter(an_entry("a", at_ms=1_000, quantity=2**40))
        unit.enter(an_entry("b", at_ms=1_999, quantity=5))
        unit.enter(an_entry("c", at_ms=2_000, quantity=100))
        unit.enter(an_entry("d", at_ms=1_500, quantity=3, meter="Zeta"))
        unit.enter(an_entry("e", at_ms=1_500, quantity=9, account="t-2/p-1"))
    mine = [Total("t-1/p-1", "Zeta", 3), Total("t-1/p-1", "completion_tokens", 2**40 + 5)]

    assert store.totals(from_ms=1_000, to_ms=2_000) == [*mine, Total("t-2/p-1", "completion_tokens", 9)]
    assert store.totals(from_ms=1_000, to_ms=2_000, account="t-1/p-1") == mine
    assert [each.id for each in store.entries(from_ms=1_000, to_ms=2_000)] == ["a", "d", "e", "b"]
    assert [each.id for each in store.entries(account="t-2/p-1")] == ["e"]
    assert [each.id for each in store.entries(from_ms=1_001, limit=2)] == ["d", "e"]


def the_audit_is_one_chain_among_many(store: Store) -> None:
    """No gap, no branch, each tenant's rows a chain of their own; a unit that fails leaves no row."""

    def seal(worker: int, step: int) -> None:
        with store.transaction() as unit:
            unit.journal(a_row(f"{worker}-{step}"))
            unit.seal(a_deed(f"t-{worker % 2}", f"{worker}-{step}"))

    def act(worker: int) -> None:
        for step in range(5):
            persistently(partial(seal, worker, step))

    refuses(Boom, store, _seal_and_fail)
    together(6, act)

    rows = list(store.deeds(limit=100))
    assert [each.seq for each in rows] == list(range(1, 31))
    assert not list(flaws(rows, {each.seq: each.hash for each in rows}))
    assert {each.deed for each in rows} == {a_deed(f"t-{w % 2}", f"{w}-{s}") for w in range(6) for s in range(5)}
    mine = [each for each in rows if each.deed.tenant_id == "t-0"]
    assert [each.tenant_seq for each in mine] == list(range(1, 16))
    assert list(store.deeds(tenant_id="t-0", after=4, limit=100)) == mine[4:]
    of_project = [each for each in mine[4:] if each.deed.project_id == "p-3"]
    assert list(store.deeds(tenant_id="t-0", project_id="p-3", after=4, limit=2)) == of_project[:2]
    assert list(store.deeds(after=28)) == rows[28:]


def _seal_and_fail(unit: Transaction) -> None:
    unit.seal(a_deed("t-0", "never"))
    raise Boom


def records_are_paged_by_key(store: Store) -> None:
    keys = ["B", "a", "a-1", "a_1", "aa", "z", "é"]  # By code point, whatever a database's locale thinks.
    save(store, *(a_record(key, scope=f"t-{index % 2}") for index, key in enumerate(keys)), a_record("m", kind="claim"))

    assert [each.key for each in store.page("endpoint", limit=3)] == keys[:3]
    assert [each.key for each in store.page("endpoint", after="a-1")] == keys[3:]
    assert [each.key for each in store.page("endpoint", scope="t-1")] == keys[1::2]
    assert [each.key for each in store.page("endpoint", scope="t-0", after="a", limit=2)] == ["a-1", "aa"]


def attention_and_wake_ups_are_found(store: Store) -> None:
    save(
        store,
        a_record("ep-1", attention=Attention.NOW, wake_at_ms=30),
        a_record("ep-2", attention=Attention.WATCH, wake_at_ms=10),
        a_record("ep-3", attention=Attention.NONE),
        a_record("ep-4", attention=Attention.NOW, wake_at_ms=10),
        a_record("ep-5", kind="claim", attention=Attention.NOW, wake_at_ms=1),
    )

    assert store.attended("endpoint", Attention.NOW) == ["ep-1", "ep-4"]
    assert store.attended("endpoint", Attention.WATCH, after="ep-1") == ["ep-2", "ep-4"]
    assert store.attended("endpoint", Attention.NONE, limit=3) == ["ep-1", "ep-2", "ep-3"]
    assert store.glances("endpoint", Attention.WATCH, after="ep-1") == [
        Glance("ep-2", 1, Attention.WATCH),
        Glance("ep-4", 1, Attention.NOW),
    ]
    assert [each.key for each in store.glances("endpoint", Attention.NONE, limit=3)] == ["ep-1", "ep-2", "ep-3"]
    first, second, last = (Due("endpoint", key, at_ms) for key, at_ms in (("ep-2", 10), ("ep-4", 10), ("ep-1", 30)))
    assert store.due(["endpoint"], 9, 10) == []
    assert store.due(["endpoint"], 29, 10) == [first, second]
    assert store.due(["endpoint"], 30, 10) == [first, second, last]
    assert store.due(["endpoint"], 30, 1) == [first]
    assert store.due(["endpoint", "claim", "pool"], 10, 10) == [Due("claim", "ep-5", 1), first, second]
    assert store.due(["pool"], 30, 10) == []


def who_listens_hears_what_each_commit_left_to_do(store: Store) -> None:
    heard: list[tuple[Committed, int]] = []
    store.listen(lambda left: heard.append((left, len(store.pending(10)))))

    def fail(unit: Transaction) -> None:
        unit.enqueue(a_message("m-2"))
        raise Boom

    with store.transaction() as unit:
        everything(unit)
        unit.save(a_record("ep-2", wake_at_ms=3), was=0)
    save(store, a_record("ep-3"))
    refuses(Boom, store, fail)

    assert heard == [(Committed(is_outgoing=True, wake_at_ms=3), 1), (Committed(), 1)], "or too early, or too often"


def the_journal_can_be_followed_among_many_writers(store: Store) -> None:
    """A reader that goes on behind the last row it had gets every row, in the order of its key's versions."""
    read: list[JournalRow] = []
    done = threading.Event()

    def write(index: int) -> None:
        for version in range(1, UNITS + 1):
            with store.transaction() as unit:
                unit.journal(a_row(f"{index}/{version}", key=f"ep-{index}", version=version))
                unit.save(a_record(f"ep-{index}"), was=version - 1)

    def follow() -> None:
        while True:
            last = done.is_set()
            rows = persistently(lambda: store.journal_rows(after=read[-1].seq if read else 0, limit=20))
            read.extend(rows)
            if last and not rows:
                return

    following = threading.Thread(target=follow)
    following.start()
    try:
        together(16, write)
    finally:
        done.set()
        following.join()

    for index in range(16):
        versions = [row.version for row in read if row.key == f"ep-{index}"]
        assert versions == list(range(1, UNITS + 1)), index


def a_message_that_commits_late_is_still_given(store: Store) -> None:
    """For a store with several writers at once: the number was drawn early, the commit came late."""
    with store.transaction() as slow:
        slow.enqueue(a_message("slow"))
        with store.transaction() as quick:
            quick.enqueue(a_message("quick"))
        pending = store.pending(10)
        assert [each.message.id for each in pending] == ["quick"]
        store.mark_sent([each.position for each in pending])

    assert [each.message.id for each in store.pending(10)] == ["slow"]


def a_row_that_commits_late_is_still_read(store: Store) -> None:
    """For a store with several writers at once: whoever follows the journal has to wait for it."""
    with ThreadPoolExecutor(1) as reader:
        with store.transaction() as slow:
            slow.journal(a_row("slow"))
            with store.transaction() as quick:
                quick.journal(a_row("quick", key="ep-2"))
            reading = reader.submit(store.journal_rows)
            wait([reading], timeout=1)
        first = reading.result()

    rest = store.journal_rows(after=first[-1].seq if first else 0)
    assert [row.cause_id for row in (*first, *rest)] == ["slow", "quick"]


def what_was_told_can_be_read_again_from_any_position(store: Store) -> None:
    empty = store.told(after=0)
    assert (empty.first, empty.last, list(empty.messages)) == (0, 0, [])
    for each in ("m1", "m2", "m3"):
        with store.transaction() as unit:
            unit.enqueue(a_message(each))
    store.mark_sent([store.pending(1)[0].position])

    everything = store.told(after=0)
    first, second, third = everything.messages
    rest = store.told(after=first.position, limit=1)

    assert [each.message for each in everything.messages] == [a_message("m1"), a_message("m2"), a_message("m3")]
    assert (everything.first, everything.last) == (first.position, third.position)
    assert list(rest.messages) == [second]
    assert rest.last == third.position
    assert list(store.told(after=third.position).messages) == []


def what_a_key_was_last_set_to_can_be_read_for_ever(store: Store) -> None:
    first, other = (bucket_put(bucket="keys", key=key, value=b"1", id=f"put-{key}") for key in ("a", "b"))
    with store.transaction() as unit:
        unit.enqueue(first)
        unit.enqueue(a_message("m1"))
        unit.enqueue(other)
    with store.transaction() as unit:
        unit.enqueue(replace(first, id="put-a-2", body=b"2"))
        unit.enqueue(replace(first, id="put-a-3", body=b"3"))
        unit.enqueue(bucket_put(bucket="routes", key="a", value=b"4", id="put-c"))
        unit.enqueue(bucket_delete(bucket="keys", key="b", id="deleted"))

    found = store.puts()

    assert [(each.subject, each.body) for each in found] == [("$KV.keys.a", b"3"), ("$KV.routes.a", b"4")]
    assert (found[0].id, found[0].stream) == ("put-a-3", "KV_keys")
    assert store.puts(after="$KV.keys.a", limit=1) == found[1:]


def what_is_told_late_is_still_read(store: Store) -> None:
    """For a store with several writers at once: whoever goes on from the last position has to wait for it."""
    with ThreadPoolExecutor(1) as reader:
        with store.transaction() as slow:
            slow.enqueue(a_message("slow"))
            with store.transaction() as quick:
                quick.enqueue(a_message("quick"))
            reading = reader.submit(store.told, after=0)
            wait([reading], timeout=1)
        first = reading.result()

    rest = store.told(after=first.last)
    assert [each.message.id for each in (*first.messages, *rest.messages)] == ["slow", "quick"]


MANY_WRITERS: Final[tuple[Callable[[Store], None], ...]] = (
    a_message_that_commits_late_is_still_given,
    a_row_that_commits_late_is_still_read,
    what_is_told_late_is_still_read,
)
PROMISES: Final[tuple[Callable[[Store], None], ...]] = (
    a_unit_that_ends_leaves_everything,
    a_unit_that_fails_leaves_nothing,
    a_stored_record_is_as_it_was_given,
    a_record_is_written_only_over_the_version_that_was_read,
    no_write_is_lost_among_many_writers,
    an_event_is_seen_once,
    an_event_of_a_unit_that_failed_was_not_seen,
    an_event_is_seen_once_by_many,
    a_counter_keeps_its_limit,
    a_counter_never_passes_its_limit_among_many,
    the_outbox_gives_in_order_until_marked,
    what_a_key_was_last_set_to_can_be_read_for_ever,
    the_outbox_loses_nothing_among_many_writers,
    what_was_told_can_be_read_again_from_any_position,
    a_label_is_unique_in_its_scope,
    a_label_moves_within_one_unit,
    a_label_is_taken_once_among_many,
    a_ledger_entry_is_itself_for_ever,
    entries_in_a_batch_land_once_and_those_with_other_content_are_told,
    what_entries_share_is_there_with_each_of_them,
    a_set_of_records_is_taken_as_one_after_the_other,
    a_set_with_a_record_at_another_version_changes_nothing,
    sums_are_exact_over_any_half_open_time,
    totals_are_sums_over_a_half_open_time,
    records_are_paged_by_key,
    attention_and_wake_ups_are_found,
    who_listens_hears_what_each_commit_left_to_do,
    the_audit_is_one_chain_among_many,
    the_journal_can_be_followed_among_many_writers,
)
