"""What goes wrong in a simulated run, and how often: each seed draws its own mixture (swarm testing)."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields


class Crash(BaseException):
    """The process died here. Not an Exception: nothing may catch it and go on."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances between 0 and 1, drawn once a seed."""

    crash_at_commit: float
    crash_after_effect: float
    publish_lost: float
    puback_lost: float
    duplicated: float
    ack_lost: float
    reordered: float
    effect_lost: float
    effect_answer_lost: float
    effect_refused: float
    model_broken: float

    @staticmethod
    def drawn(chance: random.Random) -> Faults:
        """A mixture: some seeds are calm, some storm, most are one-sided."""
        return Faults(
            crash_at_commit=chance.choice((0.0, 0.005, 0.02, 0.06)),
            crash_after_effect=chance.choice((0.0, 0.05, 0.2)),
            publish_lost=chance.choice((0.0, 0.05, 0.3)),
            puback_lost=chance.choice((0.0, 0.05, 0.3)),
            duplicated=chance.choice((0.0, 0.05, 0.3)),
            ack_lost=chance.choice((0.0, 0.05, 0.3)),
            reordered=chance.choice((0.0, 0.5, 1.0)),
            effect_lost=chance.choice((0.0, 0.05, 0.2)),
            effect_answer_lost=chance.choice((0.0, 0.05, 0.2)),
            effect_refused=chance.choice((0.0, 0.0, 0.3)),
            model_broken=chance.choice(
                (0.0, 1.0, 1.0, 1.0)
            ),  # Whether one of the models never loads; no healing helps.
        )

    @staticmethod
    def none() -> Faults:
        """Nothing goes wrong: what is still open must come to its end."""
        return Faults(*(0.0 for _ in fields(Faults)))
