"""What a unit of work reads of many records in one go: whether each took an event before, and how each stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from sqlalchemy import CursorResult, Executable, bindparam, select

from libs.common.store.port import Attention, Record
from libs.common.store.tables import RECORDS

KEYS_MAX: Final = 500  # Asked for in one statement; far below what either database takes.
LOAD: Final = select(RECORDS).where(RECORDS.c.kind == bindparam("kind"), RECORDS.c.key == bindparam("key"))
LOAD_ALL: Final = (
    select(RECORDS)
    .where(RECORDS.c.kind == bindparam("kind"), RECORDS.c.key.in_(bindparam("keys", expanding=True)))
    .order_by(RECORDS.c.key)
)
LOAD_ALL_TO_WRITE: Final = LOAD_ALL.with_for_update(key_share=True)
Run = Callable[[Executable, Any], CursorResult[Any]]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Answers that are ready, each used once; a record that is not there is None."""

    seen: dict[tuple[str, str], bool] = field(default_factory=dict)
    records: dict[tuple[str, str], Record | None] = field(default_factory=dict)


def foresee(taken: Sequence[tuple[str, str, str]], run: Run, see_all: Executable, *, now_ms: int) -> Foreseen:
    """Note that all of these are taken, and read their records, locked in this order of kinds and by key."""
    answers = Foreseen()
    rows = [{"reader": f"{kind}/{key}", "event_id": event_id, "at_ms": now_ms} for kind, key, event_id in taken]
    new = {(row.reader, row.event_id) for row in run(see_all, rows)}
    for row in rows:
        place = (str(row["reader"]), str(row["event_id"]))
        answers.seen[place] = place not in new
    for kind, group in groupby(taken, key=lambda each: each[0]):
        keys = [key for _, key, _ in group]
        answers.records.update({(kind, key): None for key in keys})
        for begin in range(0, len(keys), KEYS_MAX):
            for found in run(LOAD_ALL_TO_WRITE, {"kind": kind, "keys": keys[begin : begin + KEYS_MAX]}):
                answers.records[kind, found.key] = record_of(found)
    return answers


def record_of(row: Sequence[Any]) -> Record:
    """The record in a row of its table."""
    kind, key, state, version, sequence, scope, label, wake_at_ms, attention = row
    return Record(kind, key, state, version, sequence, scope, label, wake_at_ms, Attention(attention))
