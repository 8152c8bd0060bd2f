"""Everything that can go wrong with a provider's capacity, drawn from one seed, and then healed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from libs.common.errors import Unavailable
from libs.common.units import SECOND_MS
from libs.twin.world import World

CALLS: Final = {  # Faults of so many calls: how likely in a step, and how many.
    "throttled_calls": (0.03, 30),
    "unauthorized_calls": (0.03, 20),
    "unavailable_calls": (0.02, 10),
}
ONCE: Final = {"failing_claims": 0.03, "lost_nodes": 0.03, "ignored_deletes": 0.06}
SPANS: Final[dict[str, tuple[float, int, Any, Any]]] = {  # How likely in a step, for how long; on, off.
    "no_capacity": (0.02, 8 * SECOND_MS, True, False),
    "capacity": (0.02, 10 * SECOND_MS, {"metal3.gpu-h100": 5}, {}),
    "boot_factor": (0.02, 20 * SECOND_MS, 4.0, 1.0),
    "delete_factor": (0.02, 20 * SECOND_MS, 15.0, 1.0),
    "early_404_ms": (0.03, 30 * SECOND_MS, 3 * SECOND_MS, 0),
    "stale_list_ms": (0.03, 30 * SECOND_MS, 3 * SECOND_MS, 0),
}
ANSWER_LOST: Final = 0.02
DEATH: Final = 0.003  # At each commit and around each request that changes something.


class Crash(BaseException):
    """The process dies here; nothing may catch it."""


@dataclass
class Trouble:
    """Draws trouble at each step, and stands around every commit and every request that changes something."""

    rng: Random
    is_on: bool = True
    tally: Counter[str] = field(default_factory=Counter)
    ends_ms: dict[str, int] = field(default_factory=dict)
    die_at: int = 0  # The n-th moment, for one exact death; 0 for none.
    moments: int = 0
    sees: Callable[[str, str], None] = lambda _method, _path: None  # Whoever wants to know what was asked for.

    def stir(self, world: World, now_ms: int) -> None:
        """Order what this step brings, and end what has lasted long enough."""
        changes: dict[str, object] = {}
        for name in [name for name, end_ms in self.ends_ms.items() if now_ms >= end_ms or not self.is_on]:
            del self.ends_ms[name]
            changes[name] = SPANS[name][3]
        if self.is_on:
            changes |= self._drawn(world, now_ms)
        if changes:
            world.set_faults(changes)

    def heal(self, world: World, now_ms: int) -> None:
        """No more trouble from here on."""
        self.is_on = False
        self.stir(world, now_ms)
        world.set_faults(dict.fromkeys([*CALLS, *ONCE, "silent_nodes"], 0))

    def before(self, method: str, path: str) -> None:
        """A request that is not sent yet."""
        del method, path
        self.pass_by()

    def after(self, method: str, path: str, status: int) -> None:
        """A request that was answered; perhaps the answer is lost."""
        if status < 300:
            self.sees(method, path)
        self.pass_by()
        if self.is_on and self.rng.random() < ANSWER_LOST:
            self.tally["answer lost"] += 1
            raise Unavailable("the answer was lost", code="PlatformUnavailable")

    def pass_by(self, _moment: str = "") -> None:
        """A moment at which the process may die."""
        self.moments += 1
        if self.moments == self.die_at or (self.is_on and self.rng.random() < DEATH):
            self.tally["SIGKILL"] += 1
            raise Crash

    def _drawn(self, world: World, now_ms: int) -> dict[str, object]:
        drawn: dict[str, object] = {}
        for name, (likely, calls) in CALLS.items():
            if self.rng.random() < likely:
                drawn[name] = calls
        for name, likely in ONCE.items():
            if self.rng.random() < likely:
                drawn[name] = getattr(world.faults, name) + 1
        for name, (likely, lasts_ms, on, _) in SPANS.items():
            if name not in self.ends_ms and self.rng.random() < likely:
                self.ends_ms[name] = now_ms + lasts_ms
                drawn[name] = on
        self.tally.update(drawn.keys())
        return drawn
