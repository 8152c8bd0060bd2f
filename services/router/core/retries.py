"""How often an endpoint's requests may be asked a second time: a tenth of them, and some (reliability.md 3.4).

A second try helps where one replica is at fault. Where all are, it doubles the load under which they broke.
"""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.1  # Of what was answered.
SPARE_MAX: Final = 100.0  # Saved up at most: what one busy replica that begins to fail has in hand.


class RetryBudget:
    """What is left for second tries at one endpoint. Looked at when one is wanted: a first try costs nothing."""

    __slots__ = ("_answered", "_spare")

    def __init__(self) -> None:
        self._spare = SPARE_MAX
        self._answered = 0  # As of the last look.

    def take(self, answered: int) -> bool:
        """Whether there may be one more, now that the endpoint's replicas have ``answered`` so many requests.

        Where a replica went, that is fewer than before.
        """
        grown, self._answered = max(0, answered - self._answered), answered
        self._spare = min(SPARE_MAX, self._spare + grown * SHARE)
        if self._spare < 1:
            return False
        self._spare -= 1
        return True
