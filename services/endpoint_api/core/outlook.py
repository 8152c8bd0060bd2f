"""What is ahead of an endpoint as its tenant sees it: why it does not serve, what would help, when it will be ready."""

from __future__ import annotations

from pydantic import Field

from libs.common.events.endpoint import Stage
from services.endpoint_api.core import causes, eta
from services.endpoint_api.core.catalogue import Catalogue
from services.endpoint_api.core.shown import View, rfc3339, rfc3339_or_none
from services.endpoint_api.core.state import Endpoint


class OfferView(View):
    """Something that would help."""

    action: str = Field(description="change_spec, create_anew, free_quota, wait or tell_operator.")
    message: str
    spec: dict[str, str | int] = Field(description="Fields of the spec, by path, as they would be then.")


class CauseView(View):
    """One reason why it does not serve."""

    code: str = Field(description="What kind of reason it is, for programs.")
    reason: str = Field(description="The worker's own word for it.")
    message: str
    waiting_on: str = Field(description="Who can do something: a service, `operator` (us) or `you`.")
    since: str
    offers: tuple[OfferView, ...]


class StageEtaView(View):
    """A stage on the way to ready. Times are learned from the like; null where too little was seen."""

    name: str
    is_current: bool
    eta_p50_ms: int | None = Field(description="Of the present stage what is left, of later ones the whole.")
    eta_p90_ms: int | None


class WhyView(View):
    """Why an endpoint is where it is, and when it will be ready."""

    stage: Stage
    causes: tuple[CauseView, ...] = Field(description="The one to look at comes first; empty while it serves or rests.")
    stages: tuple[StageEtaView, ...] = Field(description="The present stage and those still to come.")
    ready_eta_p50_at: str | None = Field(description="Half of the like were ready by then.")
    ready_eta_p90_at: str | None = Field(description="Nine tenths of the like were ready by then.")


def outlook(endpoint: Endpoint, learned: eta.Learned, sold: Catalogue, now_ms: int) -> WhyView:
    """What is ahead of the endpoint; ``sold`` is what its tenant may buy."""
    elapsed_ms = max(0, now_ms - endpoint.visit.since_ms)
    ready = eta.ready_in(learned, endpoint.stage, elapsed_ms)
    return WhyView(
        stage=endpoint.stage,
        causes=tuple(_cause(each) for each in causes.causes_of(endpoint, sold, now_ms)),
        stages=_stages(learned, endpoint.stage, elapsed_ms),
        ready_eta_p50_at=rfc3339_or_none(None if ready.p50_ms is None else now_ms + ready.p50_ms),
        ready_eta_p90_at=rfc3339_or_none(None if ready.p90_ms is None else now_ms + ready.p90_ms),
    )


def _stages(learned: eta.Learned, stage: Stage, elapsed_ms: int) -> tuple[StageEtaView, ...]:
    if stage not in eta.TIMED:
        return ()
    present = _eta(stage, eta.remaining(learned.times(stage), elapsed_ms), is_current=True)
    coming = (_eta(each, eta.typical(learned.times(each)), is_current=False) for each in eta.upcoming(stage))
    return (present, *coming)


def _eta(stage: Stage, known: eta.Eta, *, is_current: bool) -> StageEtaView:
    return StageEtaView(name=stage, is_current=is_current, eta_p50_ms=known.p50_ms, eta_p90_ms=known.p90_ms)


def _cause(cause: causes.Cause) -> CauseView:
    offers = tuple(OfferView(action=each.action, message=each.message, spec=dict(each.spec)) for each in cause.offers)
    return CauseView(
        code=cause.code,
        reason=cause.reason,
        message=cause.message,
        waiting_on=cause.waiting_on,
        since=rfc3339(cause.since_ms),
        offers=offers,
    )
