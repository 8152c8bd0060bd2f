"""The parts of a window: its quantity by adapter and by class of nodes, for who wants to know more than the window.

A window stays one thing of one model, with the key and the total that its readers know; its parts add up to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from libs.common.events.usage import UsagePart
from services.metering.core.labels import labels_of

Parts = tuple[UsagePart, ...]


def part_of(labels: str, quantity: int) -> UsagePart:
    """What a sum of the ledger with these labels is of its window."""
    said = labels_of(labels)
    return UsagePart.model_construct(quantity=quantity, adapter=said.adapter, node_class=said.node_class)


def joined(parts: Iterable[UsagePart]) -> Parts:
    """Parts of one adapter and class as one, in order; also what is 0, because it was taken back."""
    found: dict[tuple[str, str], int] = {}
    for each in parts:
        place = (each.adapter, each.node_class)
        found[place] = found.get(place, 0) + each.quantity
    return tuple(
        UsagePart.model_construct(quantity=found[place], adapter=place[0], node_class=place[1])
        for place in sorted(found)
    )


def told(parts: Parts) -> Parts:
    """Those that are told: nothing where all of it is of no adapter and no class, because the window says that."""
    some = tuple(each for each in parts if each.quantity)
    return some if any(each.adapter or each.node_class for each in some) else ()
