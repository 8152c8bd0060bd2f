"""A process that writes to a store until it is killed: ``python -m tests.contract.store_writer URL MOMENT``.

MOMENT is ``before`` or ``after`` (dies at that side of its one commit) or ``forever`` (says each unit it committed).
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Final

from libs.common.store.port import Transaction
from libs.common.store.sql import SqlStore
from tests.contract import store_promises as promises

DIED: Final = 17


def write(unit: Transaction, number: int) -> None:
    """One unit: each part carries its number."""
    stored = unit.load("endpoint", "ep-1")
    record = promises.a_record(state=b"%d" % number, label=f"n-{number}")
    assert not unit.seen("reader", f"e-{number}")
    unit.journal(promises.a_row(f"e-{number}", version=number))
    unit.enqueue(promises.a_message(f"m-{number}"))
    assert unit.take("units", 1, 10**9)
    unit.enter(promises.an_entry(f"l-{number:06}"))
    unit.save(record, was=stored.version if stored else 0)


def main(url: str, moment: str) -> None:
    """Write."""
    store = SqlStore(url)
    if moment == "forever":
        for number in itertools.count((store.counter("units")) + 1):
            with store.transaction() as unit:
                write(unit, number)
            print(number, flush=True)
    with store.transaction() as unit:
        promises.everything(unit)
        if moment == "before":
            os._exit(DIED)
    os._exit(DIED)


if __name__ == "__main__":
    main(*sys.argv[1:])
