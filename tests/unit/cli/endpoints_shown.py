"""Endpoints as the API answers with them, for tests of what people see: made by the service's own views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from services.endpoint_api.core.eta import TIMED, Durations, Learned, Sample, StageTimes
from services.endpoint_api.core.outlook import outlook
from services.endpoint_api.core.status import endpoint_view
from tests.unit.endpoint_api.given import CATALOGUE, NOW, an_endpoint, told

UNKNOWN: Final = Learned(Durations("t|m"), Durations("t"), 1)


def each_took(*took_ms: int) -> Learned:
    """Every stage took this long, as often each."""
    samples = tuple(Sample(each, 1) for each in took_ms)
    return Learned(Durations("t|m", tuple(StageTimes(stage, samples) for stage in TIMED)), Durations("t"), 1)


def shown(events: Sequence[Event | Envelope], *, elapsed_ms: int = 0, learned: Learned = UNKNOWN) -> dict[str, Any]:
    """The answer to a get after these events, and after some more time."""
    envelopes = (
        each if isinstance(each, Envelope) else told(each, sequence=index) for index, each in enumerate(events, start=1)
    )
    endpoint, now_ms = an_endpoint(*envelopes), NOW + elapsed_ms
    view = endpoint_view(endpoint, outlook(endpoint, learned, CATALOGUE, now_ms), now_ms)
    answer: dict[str, Any] = view.model_dump(mode="json")
    return answer


def explained(events: Sequence[Event | Envelope], *, elapsed_ms: int = 0, learned: Learned = UNKNOWN) -> dict[str, Any]:
    """The answer to a why."""
    envelopes = (
        each if isinstance(each, Envelope) else told(each, sequence=index) for index, each in enumerate(events, start=1)
    )
    why = outlook(an_endpoint(*envelopes), learned, CATALOGUE, NOW + elapsed_ms)
    answer: dict[str, Any] = why.model_dump(mode="json")
    return answer
