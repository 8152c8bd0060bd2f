"""Budgets: what was cut off each for which router process, so that all slices together never pass it.

A slice is granted before it is spent. Of each holder three totals are kept that only grow (granted, returned, spent),
so a draw that comes twice or late changes nothing. What a holder that died had left stays cut off for the period.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from libs.common.bus.streams import SLICES
from libs.common.decision import Decision, Put
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.events.route import BudgetDrawn, Draw
from libs.common.events.tables import SliceEntry
from libs.common.events.usage import BudgetReached

ALERTS_PERCENT: Final = (50, 80, 95)
SPENT_PERCENT: Final = 100  # Told when a need could not be met any more.
AHEAD_PART: Final = 4  # Ahead of need a holder gets at most the fourth part of what is left: others come too.


@dataclass(frozen=True, slots=True)
class Holder:
    """A router process, in tokens: what it was granted, gave back, and says that it spent."""

    instance: str
    boot_id: str
    granted: int = 0
    returned: int = 0
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget in one period; `limit` is the one that held at the last draw."""

    key: str
    limit: int = 0
    holders: tuple[Holder, ...] = ()
    alerted: tuple[int, ...] = ()

    @property
    def left(self) -> int:
        """What can be granted; below 0 if the limit was lowered under what is out."""
        return self.limit - sum(each.granted - each.returned for each in self.holders)

    @property
    def spent(self) -> int:
        """What all holders say that they spent."""
        return sum(each.spent for each in self.holders)


class Drawn(Internal):
    """A router drew on budgets, with the limits that held then (None: there is no such budget any more)."""

    kind: ClassVar[str] = "metering.drawn"
    owner: ClassVar[Owner] = Owner.METERING

    news: BudgetDrawn
    limits: dict[str, int | None]


def key_of(draw: Draw) -> str:
    """The key of a budget in a period."""
    return f"{draw.budget}@{draw.period}"


def decide(budget: Budget, envelope: Envelope, _now_ms: int) -> Decision[Budget]:
    """Grant what is needed while there is some left, and tell the alerts that are due."""
    drawn = envelope.data
    assert isinstance(drawn, Drawn), drawn
    news = drawn.news
    draw = next(each for each in news.draws if key_of(each) == budget.key)
    budget = replace(budget, limit=drawn.limits.get(draw.budget) or 0)
    known = next(
        (each for each in budget.holders if (each.instance, each.boot_id) == (news.instance, news.boot_id)),
        Holder(news.instance, news.boot_id),
    )
    holder = replace(known, returned=max(known.returned, draw.returned), spent=max(known.spent, draw.spent))
    budget = _with(budget, holder)
    holder = replace(holder, granted=holder.granted + extra(budget.left, holder.granted, draw))
    budget = _with(budget, holder)
    due = [each for each in _reached(budget, draw, holder) if each not in budget.alerted]
    after = replace(budget, alerted=(*budget.alerted, *due))
    tenant_id, _, project_id = draw.budget.partition(".")
    told = tuple(
        BudgetReached(
            tenant_id=tenant_id, project_id=project_id, period=draw.period, percent=each,
            tokens_per_month=budget.limit, tokens_spent=budget.spent,
        )
        for each in due
    )  # fmt: skip
    entry = SliceEntry(
        budget=draw.budget, period=draw.period, boot_id=news.boot_id, granted=holder.granted, left=max(0, budget.left)
    )
    put = Put(SLICES, f"{news.instance}.{draw.budget}", entry.model_dump_json().encode())
    return Decision(after, events=told, about=tenant_id, puts=(put,))


def extra(left: int, granted: int, draw: Draw) -> int:
    """How much more to grant: what is needed if all of it is there, and of what is wanted beyond a part."""
    needed = max(0, draw.needs - granted)
    if needed > left:
        return 0
    ahead = max(0, draw.wants - granted - needed)
    return needed + min(ahead, (left - needed) // AHEAD_PART)


def _with(budget: Budget, holder: Holder) -> Budget:
    others = (e for e in budget.holders if (e.instance, e.boot_id) != (holder.instance, holder.boot_id))
    return replace(budget, holders=(*others, holder))


def _reached(budget: Budget, draw: Draw, holder: Holder) -> list[int]:
    found = [each for each in ALERTS_PERCENT if budget.limit and 100 * budget.spent >= each * budget.limit]
    return [*found, SPENT_PERCENT] if draw.needs > holder.granted else found
