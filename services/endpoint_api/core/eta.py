"""How long stages take: learned from endpoints of the same tier and model, and what that says of one on its way.

A quantile is the nearest rank among what was seen: never invented, so too few samples say nothing. Times of stages
that move the model's bytes are scaled by its size, so that a model not seen before can learn from others of its tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from libs.common.decision import Decision
from libs.common.events.endpoint import EndpointStageChanged, Stage
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from services.endpoint_api.core.lifecycle import CREATING

SAMPLES_MAX: Final = 200  # Of one stage, the newest: what clusters did a year ago says little of today.
SAMPLES_MIN: Final = 5  # Fewer say more of chance than of the stage.
DRAWS: Final = 256  # Sums that stand for the time to ready; half a millisecond's work.
SCALED: Final = frozenset({Stage.DOWNLOADING_MODEL, Stage.LOADING_MODEL})  # Their time goes with the model's bytes.
TIMED: Final = (*CREATING, Stage.UPDATING)
ONWARD: Final = frozenset({*CREATING, Stage.READY})  # Where a passage leads that no failure, pause or delete ended.
# Fractions of the square roots of the first primes in 32 bits: a sequence that fills all dimensions evenly.
STRIDES: Final = (
    1779033703, 3144134277, 1013904242, 2773480762, 1359893119, 2600822924, 528734635, 1541459225, 3418070365,
    1654270250, 2438529370, 355462360,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One passage through a stage, with the size of the model that passed."""

    took_ms: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StageTimes:
    """The newest passages through a stage, oldest first."""

    stage: Stage
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Durations:
    """What was learned under one key: a tier, or a tier and model."""

    key: str
    stages: tuple[StageTimes, ...] = ()

    def of(self, stage: Stage) -> tuple[Sample, ...]:
        """The samples of a stage."""
        return next((each.samples for each in self.stages if each.stage is stage), ())


@dataclass(frozen=True, slots=True)
class Eta:
    """Milliseconds that half, and nine tenths, of the like stay within; None where too little is known."""

    p50_ms: int | None = None
    p90_ms: int | None = None


class StagePassed(Internal):
    """An endpoint went through a stage; told once for each passage, under each key that learns from it."""

    kind: ClassVar[str] = "internal.stage_passed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    stage: Stage
    took_ms: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known for one endpoint: of its tier and model, or else of its tier."""

    of_model: Durations
    of_tier: Durations
    size_bytes: int

    def times(self, stage: Stage) -> tuple[int, ...]:
        """Times of the stage, shortest first; empty if too few were seen."""
        for known in (self.of_model.of(stage), self.of_tier.of(stage)):
            if len(known) >= SAMPLES_MIN:
                return tuple(sorted(self._scaled(stage, each) for each in known))
        return ()

    def _scaled(self, stage: Stage, sample: Sample) -> int:
        if stage not in SCALED or not sample.size_bytes or not self.size_bytes:
            return sample.took_ms
        return sample.took_ms * self.size_bytes // sample.size_bytes


def decide(durations: Durations, envelope: Envelope, now_ms: int) -> Decision[Durations]:
    """The durations with one more passage."""
    del now_ms
    match envelope.data:
        case StagePassed() as passed:
            sample = Sample(passed.took_ms, passed.size_bytes)
            times = StageTimes(passed.stage, (*durations.of(passed.stage), sample)[-SAMPLES_MAX:])
            others = tuple(each for each in durations.stages if each.stage is not passed.stage)
            return Decision(replace(durations, stages=(*others, times)))
        case other:
            raise AssertionError(f"durations hear no {other.kind}")


def passage(changed: EndpointStageChanged, *, size_bytes: int) -> StagePassed | None:
    """The passage that a change of stage ends; None if it was not a clean one, or the time of its begin is not told."""
    took_ms = changed.previous_ms
    if changed.previous not in TIMED or changed.stage not in ONWARD or took_ms is None:
        return None
    return StagePassed(stage=changed.previous, took_ms=took_ms, size_bytes=size_bytes)


def keys_for(*, tier: str, model: str) -> tuple[str, str]:
    """The keys that learn from an endpoint: the narrow one, then the wide one."""
    return f"{tier}|{model}", tier


def typical(times: Sequence[int]) -> Eta:
    """What a whole passage takes; ``times`` are in order."""
    return Eta(nearest_rank(times, 50), nearest_rank(times, 90)) if times else Eta()


def remaining(times: Sequence[int], elapsed_ms: int) -> Eta:
    """What is left after ``elapsed_ms``, by those passages that took longer; nothing is known if none did."""
    return typical(_left(times, elapsed_ms))


def upcoming(stage: Stage) -> tuple[Stage, ...]:
    """The stages still to come before an endpoint in ``stage`` is ready."""
    return CREATING[CREATING.index(stage) + 1 :] if stage in CREATING else ()


def ready_in(learned: Learned, stage: Stage, elapsed_ms: int) -> Eta:
    """The time until ready. Unknown if any stage on the way is.

    Quantiles of a sum are not sums of quantiles, so sums of passages are drawn, evenly and the same each time.
    """
    if stage not in TIMED:
        return Eta()
    present = _left(learned.times(stage), elapsed_ms)
    ways = [present, *(learned.times(each) for each in upcoming(stage))]
    if not all(ways):
        return Eta()
    return typical(sorted(_drawn(ways, draw) for draw in range(1, DRAWS + 1)))


def nearest_rank(times: Sequence[int], percent: int) -> int:
    """The smallest of ``times`` (in order, not empty) that ``percent`` of them do not pass."""
    return times[-(-percent * len(times) // 100) - 1]


def _left(times: Sequence[int], elapsed_ms: int) -> Sequence[int]:
    """At the very begin every passage is the like, also one that took no time."""
    return [each - elapsed_ms for each in times if each > elapsed_ms] if elapsed_ms else times


def _drawn(ways: Sequence[Sequence[int]], draw: int) -> int:
    """One sum: of each stage's times the one at this draw's place in an even sequence."""
    places = ((draw * stride) & 0xFFFFFFFF for stride in STRIDES)
    return sum(times[place * len(times) >> 32] for times, place in zip(ways, places, strict=False))
