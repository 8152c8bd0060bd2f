"""Budgets: what was cut off each for which router process, so that all slices together never pass it.

A slice is granted before it is spent. Of each holder three totals are kept that only grow (granted, returned, spent),
so a draw that comes twice or late changes nothing. What a holder that died had left stays cut off for the period.
A budget in money grants tokens too, as many as it surely pays for (`money`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from libs.common.bus.streams import SLICES
from libs.common.decision import Decision, Put
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.events.route import BudgetDrawn, Draw
from libs.common.events.tables import SliceEntry
from libs.common.events.usage import BudgetReached
from services.metering.core.money import Money, Spending, affordable, granted, looked

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
    """A budget in one period; `limit` is the one that held at the last draw, `spending` is of a budget in money."""

    key: str
    limit: int = 0
    holders: tuple[Holder, ...] = ()
    alerted: tuple[int, ...] = ()
    spending: Spending = field(default_factory=Spending)

    @property
    def out(self) -> int:
        """What all holders were granted and did not give back."""
        return sum(each.granted - each.returned for each in self.holders)

    @property
    def left(self) -> int:
        """What can be granted; below 0 if the limit was lowered under what is out."""
        return self.limit - self.out

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
    money: dict[str, Money] = {}


def key_of(draw: Draw) -> str:
    """The key of a budget in a period."""
    return f"{draw.budget}@{draw.period}"


def spender_of(budget: str) -> tuple[str, str, str]:
    """Whose budget it is: tenant, project and key; what is empty it is not of."""
    tenant_id, project_id, key_id = (*budget.split("."), "", "")[:3]
    return tenant_id, project_id, key_id


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
    money = drawn.money.get(draw.budget)
    budget, holder = _granted(_with(budget, holder), holder, draw, money)
    left = _left(budget, money)
    entry = SliceEntry(
        budget=draw.budget, period=draw.period, boot_id=news.boot_id, granted=holder.granted, left=max(0, left)
    )
    put = Put(SLICES, f"{news.instance}.{draw.budget}", entry.model_dump_json().encode())
    budget, told = _alerted(budget, draw, money, unmet=max(0, draw.needs - holder.granted))
    return Decision(budget, events=told, about=spender_of(draw.budget)[0], puts=(put,))


def extra(left: int, granted: int, draw: Draw) -> int:
    """How much more to grant: what is needed if all of it is there, and of what is wanted beyond a part."""
    needed = max(0, draw.needs - granted)
    if needed > left:
        return 0
    ahead = max(0, draw.wants - granted - needed)
    return needed + min(ahead, (left - needed) // AHEAD_PART)


def _granted(budget: Budget, holder: Holder, draw: Draw, money: Money | None) -> tuple[Budget, Holder]:
    """The budget and its holder with what is granted on this draw."""
    if money is not None:
        budget = replace(budget, spending=looked(budget.spending, money, out=budget.out))
    more = extra(_left(budget, money), holder.granted, draw)
    if money is not None:
        budget = replace(budget, spending=granted(budget.spending, more, money))
    holder = replace(holder, granted=holder.granted + more)
    return _with(budget, holder), holder


def _left(budget: Budget, money: Money | None) -> int:
    """How many tokens can be granted, and are surely paid for."""
    return budget.left if money is None else min(budget.left, affordable(budget.spending, money))


def _with(budget: Budget, holder: Holder) -> Budget:
    others = (e for e in budget.holders if (e.instance, e.boot_id) != (holder.instance, holder.boot_id))
    return replace(budget, holders=(*others, holder))


def _alerted(
    budget: Budget, draw: Draw, money: Money | None, *, unmet: int
) -> tuple[Budget, tuple[BudgetReached, ...]]:
    """The alerts that are due, of tokens and of money, each once in a period; ``unmet`` tokens could not be granted."""
    tenant_id, project_id, key_id = spender_of(draw.budget)
    spending, told = budget.spending, []
    of_tokens = BudgetReached(
        tenant_id=tenant_id, project_id=project_id, period=draw.period, percent=0,
        tokens_per_month=budget.limit, tokens_spent=budget.spent, key_id=key_id,
    )  # fmt: skip
    due = _due(budget.spent, budget.limit, budget.alerted, is_short=unmet > budget.left)
    told += [of_tokens.model_copy(update={"percent": each}) for each in due]
    budget = replace(budget, alerted=(*budget.alerted, *due))
    if money is not None:
        of_money = of_tokens.model_copy(
            update={
                "money_per_month_nano": spending.limit,
                "money_spent_nano": spending.charged,
                "currency": money.currency,
            }
        )
        due = _due(spending.charged, spending.limit, spending.alerted, is_short=unmet > affordable(spending, money))
        told += [of_money.model_copy(update={"percent": each}) for each in due]
        budget = replace(budget, spending=replace(spending, alerted=(*spending.alerted, *due)))
    return budget, tuple(told)


def _due(spent: int, limit: int, told: tuple[int, ...], *, is_short: bool) -> list[int]:
    found = [each for each in ALERTS_PERCENT if limit and 100 * spent >= each * limit]
    return [each for each in ([*found, SPENT_PERCENT] if is_short else found) if each not in told]
