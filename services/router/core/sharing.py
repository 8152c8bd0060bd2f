"""How the workers of one router share the places of an endpoint for which requests wait in several of them.

Each worker has a queue of its own, and a place that becomes free is seen at once by the worker that gave it back, and a
moment later by the others. So one that has all places would go on having them, whoever waits elsewhere. While requests
wait in another worker, each may fill no more than its share: by the lanes that wait in it, as if there were one queue.
Places that do not divide evenly go round. Where nobody else waits, all are anybody's. Pure; told what the others said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TURN_S: Final = (
    1  # How long a place that does not divide evenly stays with a worker: to pass it on takes a tenth of it.
)


@dataclass(frozen=True, slots=True)
class Others:
    """Who waits in which worker, as of the last look; nobody at our ``own`` place.

    ``lanes`` are those of interactive requests, ``requests`` all that wait.
    """

    own: int = 0
    lanes: tuple[int, ...] = (0,)
    requests: tuple[int, ...] = (0,)

    def share(self, places: int, *, lanes: int, turn: int) -> int:
        """How many of the ``places`` this worker may fill, in which so many ``lanes`` wait."""
        waiting = [*self.lanes]
        waiting[self.own] = lanes
        total = sum(waiting)
        if not total:
            return places
        parts = [places * each // total for each in waiting]
        takers = [worker for worker, each in enumerate(waiting) if each]
        first, rest = turn % len(takers), places - sum(parts)
        return parts[self.own] + (self.own in [*takers[first:], *takers[:first]][:rest])

    def room(self, waiting_max: int) -> int:
        """How many may wait here: what the others leave of so many, or a part like theirs if that is more.

        So one that fills the queue elsewhere keeps nobody out here; of four workers all together hold twice as many.
        """
        workers = 1 + sum(each > 0 for each in self.requests)
        return max(waiting_max - sum(self.requests), waiting_max // workers)


NOBODY: Final = Others()
