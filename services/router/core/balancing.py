"""Which replica takes a request: the one with the fewest outstanding; of several such, each in its turn.

Affinity, weights, ejection and zones come later, as further arguments of this one question.
"""

from __future__ import annotations

from collections.abc import Sequence


def choose(outstanding: Sequence[int], turn: int) -> int:
    """The index of the replica to use; ``turn`` counts requests, so that equals share fairly."""
    assert outstanding, "a choice needs replicas"
    least = min(outstanding)
    equals = [index for index, count in enumerate(outstanding) if count == least]
    return equals[turn % len(equals)]
