"""What autoscaler owns: a scaler per endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from libs.common.desire import is_ended
from libs.common.events.endpoint import Scaling, Stage
from libs.common.events.facts import Facts
from services.autoscaler.core.traffic import Sample

LIVE: Final = (Stage.READY, Stage.DEGRADED, Stage.UPDATING)


@dataclass(frozen=True, slots=True)
class Scaler:
    """What is known of an endpoint and what was decided for it; `decided` 0: nothing yet, so the least holds.

    Of what others say only the highest sequence counts. `now_ms` is the latest time seen. `life` is the generation that
    the present life began with, at `begun_ms`: the first request, or the one after a pause or failure. `is_anew` while
    it was not yet said that what was decided before holds no longer; `is_asleep` while no replica is what was decided.
    """

    endpoint_id: str
    facts: Facts = field(default_factory=Facts)
    limits: Scaling | None = None
    generation: int = 0
    stage: Stage | None = None
    stage_sequence: int = 0
    stage_generation: int = 0
    ready: int | None = None
    replicas_sequence: int = 0
    samples: tuple[Sample, ...] = ()
    decided: int = 0
    changed_ms: int = 0
    now_ms: int = 0
    life: int = 0
    begun_ms: int = 0
    is_anew: bool = False
    is_asleep: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the endpoint is going, paused or failed: nothing is scaled until it is asked for again."""
        return is_ended(self.facts)

    @property
    def is_live(self) -> bool:
        """Whether the endpoint serves, so that its traffic says something."""
        return self.stage in LIVE and self.stage_generation >= self.life and not self.is_over
