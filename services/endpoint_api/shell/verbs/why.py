"""The verb that says why an endpoint is not serving, and what may be done; and when it will be ready."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from libs.common.events.endpoint import Stage
from libs.common.runner import Runner
from services.endpoint_api.core import causes, eta
from services.endpoint_api.core.caller import Caller, Scope
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.core.status import rfc3339
from services.endpoint_api.shell.learning import Learner
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy
from services.endpoint_api.shell.verbs.endpoints import EndpointVerbs


class OfferView(BaseModel):
    """Something that would help."""

    model_config = ConfigDict(frozen=True)

    action: str = Field(description="change_spec, create_anew or free_quota.")
    message: str
    spec: dict[str, str | int] = Field(description="Fields of the spec, by path, as they would be then.")


class CauseView(BaseModel):
    """One reason why it does not serve."""

    model_config = ConfigDict(frozen=True)

    code: str = Field(description="What kind of reason it is, for programs.")
    reason: str = Field(description="The worker's own word for it.")
    message: str
    waiting_on: str = Field(description="Who can do something: a service, `operator` (us) or `you`.")
    since: str
    offers: tuple[OfferView, ...]


class StageEtaView(BaseModel):
    """A stage on the way to ready. Times are learned from the like; null where too little was seen."""

    model_config = ConfigDict(frozen=True)

    name: str
    is_current: bool
    eta_p50_ms: int | None = Field(description="Of the present stage what is left, of later ones the whole.")
    eta_p90_ms: int | None


class WhyView(BaseModel):
    """Why an endpoint is where it is, and when it will be ready."""

    model_config = ConfigDict(frozen=True)

    stage: Stage
    causes: tuple[CauseView, ...] = Field(description="The one to look at comes first; empty while it serves or rests.")
    stages: tuple[StageEtaView, ...] = Field(description="The present stage and those still to come.")
    ready_eta_p50_at: str | None = Field(description="Half of the like were ready by then.")
    ready_eta_p90_at: str | None


class WhyVerbs:
    """Explanations. Raises Forbidden for a missing scope, NotFound for another's endpoint."""

    def __init__(
        self, verbs: EndpointVerbs, endpoints: Runner[Endpoint], learner: Learner, tenancy: Tenancy, ports: Ports
    ) -> None:
        self._verbs = verbs
        self._endpoints = endpoints
        self._learner = learner
        self._tenancy = tenancy
        self._ports = ports

    def get(self, caller: Caller, ref: str) -> WhyView:
        """Why the endpoint is where it is."""
        caller.needs(Scope.READ)
        endpoint = self._endpoints.state(self._verbs.get(caller, ref).id)
        assert endpoint is not None, "it was found just now"
        return self.explain(caller, endpoint)

    def explain(self, caller: Caller, endpoint: Endpoint) -> WhyView:
        """The same for an endpoint that was read."""
        now_ms = self._ports.clock.now_ms()
        learned = self._learner.known_for(endpoint)
        elapsed_ms = max(0, now_ms - endpoint.visit.since_ms)
        ready = eta.ready_in(learned, endpoint.stage, elapsed_ms)
        found = causes.causes_of(endpoint, self._tenancy.catalogue(caller), now_ms)
        return WhyView(
            stage=endpoint.stage,
            causes=tuple(_cause(each) for each in found),
            stages=_stages(learned, endpoint.stage, elapsed_ms),
            ready_eta_p50_at=None if ready.p50_ms is None else rfc3339(now_ms + ready.p50_ms),
            ready_eta_p90_at=None if ready.p90_ms is None else rfc3339(now_ms + ready.p90_ms),
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
