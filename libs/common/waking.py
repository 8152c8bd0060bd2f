"""The clock of a service: one question of its store for all that it owns, and each record woken whose time has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from libs.common.events.envelope import Envelope
from libs.common.ids import event_id
from libs.common.runner import Runner, Woke
from libs.common.store.port import Due

DUE_MAX: Final = 256  # Wake-ups handled in one tick; the rest are due in the next.


@dataclass(frozen=True, slots=True)
class Ticked:
    """How many records were woken, and when the next is due, if it is as soon as was asked for."""

    woken: int
    next_ms: int | None = None


def tick_all(runners: Sequence[Runner[Any]], *, ahead_ms: int = 0) -> Ticked:
    """Wake every record of these runners, which share a store, whose time has come; look so far ahead for the next."""
    if not runners:
        return Ticked(0)
    now_ms = runners[0].clock.now_ms()
    found = runners[0].store.due([each.owned.kind for each in runners], now_ms + ahead_ms, DUE_MAX)
    due = [each for each in found if each.at_ms <= now_ms]
    for runner in runners:
        for each in due:
            if each.kind == runner.owned.kind:
                _wake(runner, each)
    if len(due) == DUE_MAX:
        return Ticked(len(due), now_ms)
    return Ticked(len(due), min((each.at_ms for each in found if each.at_ms > now_ms), default=None))


def _wake(runner: Runner[Any], due: Due) -> None:
    cause = event_id(f"{due.kind}|{due.key}|{due.at_ms}", "woke", 0)
    runner.take(due.key, Envelope(cause, Woke(due_ms=due.at_ms), subject=due.key, time_ms=due.at_ms))
