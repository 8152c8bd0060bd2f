"""How many nodes should stand warm: as many as were drawn at once, lately. Of a pool, or of one endpoint's own cluster.

A node takes minutes to boot, so who came within one boot of another could not have been served by its replacement:
the most nodes that were drawn within `BOOT_MS`, in the last `WINDOW_MS`, would have served everybody. capacity-manager
keeps it within what the tier allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from libs.common.decision import Decision
from libs.common.events.capacity import PoolDrawn
from libs.common.events.envelope import Envelope
from libs.common.events.scale import PoolInputs, PoolTargeted
from libs.common.runner import Woke
from libs.common.units import MINUTE_MS

STOCK: Final = "stock"
WINDOW_MS: Final = 60 * MINUTE_MS  # Long enough to see the next rush coming, short enough that a night costs nothing.
BOOT_MS: Final = 10 * MINUTE_MS  # A cloud node takes five minutes and its GPU stack two; metal takes longer.
DRAWS_MAX: Final = 512  # Of one pool within the window; the oldest are forgotten first.


@dataclass(frozen=True, slots=True)
class Draw:
    """So many nodes came to be needed."""

    at_ms: int
    nodes: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Stock:
    """What was drawn lately from one pool, and what was last told; None: nothing yet."""

    id: str
    draws: tuple[Draw, ...] = ()
    told: int | None = None


def decide_stock(stock: Stock, envelope: Envelope, now_ms: int) -> Decision[Stock]:
    """Take in a draw, or the time, and tell the target if it is another."""
    draws = stock.draws
    match envelope.data:
        case PoolDrawn(nodes=nodes) if all(each.sequence != envelope.sequence for each in draws):
            draws = (*draws, Draw(envelope.time_ms, nodes, envelope.sequence))
        case Woke(due_ms=due_ms):
            now_ms = max(now_ms, due_ms)
        case _:
            pass  # Heard before.
    recent = (each for each in draws if now_ms < each.at_ms + WINDOW_MS)
    kept = sorted(recent, key=lambda each: (each.at_ms, each.sequence))
    stock = replace(stock, draws=tuple(kept[-DRAWS_MAX:]))
    wake_ms = min((each.at_ms + WINDOW_MS for each in stock.draws), default=None)
    wanted = at_once(stock.draws)
    if wanted == (stock.told or 0):
        return Decision(stock, wake_at_ms=wake_ms)
    inputs = PoolInputs(window_ms=WINDOW_MS, draws=len(stock.draws), at_once=wanted, boot_ms=BOOT_MS)
    reason = f"{wanted} nodes were drawn within {BOOT_MS // MINUTE_MS} minutes, at most, in the last hour"
    told = PoolTargeted(nodes=wanted, reason=reason, inputs=inputs)
    return Decision(replace(stock, told=wanted), events=(told,), wake_at_ms=wake_ms)


def at_once(draws: Sequence[Draw]) -> int:
    """The most nodes that were drawn within one boot; ``draws`` are in order of time."""
    most = total = first = 0
    for each in draws:
        total += each.nodes
        while draws[first].at_ms + BOOT_MS <= each.at_ms:
            total -= draws[first].nodes
            first += 1
        most = max(most, total)
    return most
