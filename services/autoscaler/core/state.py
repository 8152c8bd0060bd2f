"""What autoscaler owns: a scaler per endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.common.events.endpoint import Scaling, Stage
from libs.common.events.facts import Fact, Facts
from services.autoscaler.core.traffic import Sample


@dataclass(frozen=True, slots=True)
class Scaler:
    """What is known of an endpoint and what was decided for it; `decided` 0: nothing yet, so the least holds.

    Of what others say only the highest sequence counts. `now_ms` is the latest time seen.
    """

    endpoint_id: str
    facts: Facts = field(default_factory=Facts)
    limits: Scaling | None = None
    generation: int = 0
    stage: Stage | None = None
    stage_sequence: int = 0
    ready: int | None = None
    replicas_sequence: int = 0
    samples: tuple[Sample, ...] = ()
    decided: int = 0
    changed_ms: int = 0
    now_ms: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the endpoint is going or failed: nothing is scaled any more."""
        return self.facts.holds(Fact.DELETION_REQUESTED) or self.facts.holds(Fact.ENDPOINT_FAILED)

    @property
    def is_live(self) -> bool:
        """Whether the endpoint serves, so that its traffic says something."""
        return self.stage in (Stage.READY, Stage.DEGRADED) and not self.is_over
