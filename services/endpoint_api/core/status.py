"""The composed status: endpoints, operations and keys as those who asked for them see them, nothing of the Platform."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from libs.common.events.endpoint import EndpointSpec, Limits, Stage
from libs.common.events.facts import Fact
from services.endpoint_api.core.conditions import ConditionView, conditions_of, created_ms, observed_generation
from services.endpoint_api.core.explain import deadline_ms, download_of, past_of, url_of, why
from services.endpoint_api.core.lifecycle import HALTED
from services.endpoint_api.core.operations import is_cancellable, is_pausable, progress
from services.endpoint_api.core.outlook import CauseView, StageEtaView, WhyView
from services.endpoint_api.core.shown import View, rfc3339, rfc3339_or_none
from services.endpoint_api.core.state import Endpoint, Key, Operation, Visit

# The model's way, last first: the first fact that holds says how far it is.
MODEL_STATES: Final = (
    (Fact.RUNTIME_REMOVED, "removed"),
    (Fact.CACHE_WARMED, "warm"),
    (Fact.MODEL_LOADED, "loaded"),
    (Fact.MODEL_DOWNLOADED, "loading"),
    (Fact.IMAGE_PULLED, "downloading"),
)


class CutView(View):
    """An answer that was ended at a drain deadline."""

    request_id: str
    completion_tokens: int = Field(description="What its client got, and is billed for.")
    cut_at: str


class OperationView(View):
    """One accepted command."""

    id: str
    verb: str = Field(description="create, update, scale, pause, drain, resume or delete.")
    endpoint_id: str
    generation: int
    status: str = Field(description="running, succeeded, failed, superseded, cancelled or rolled_back.")
    message: str
    accepted_at: str
    finished_at: str | None
    progress: float = Field(ge=0, le=1, description="The part of the stages that is behind it; 1 once it ended.")
    stage: Stage = Field(description="Where its endpoint stands.")
    cancellable: bool = Field(description="Whether a cancel would be accepted now.")
    pausable: bool = Field(default=False, description="Whether it is a rollout that can be held, or let go on, now.")
    paused: bool = Field(default=False, description="Whether it is held.")
    streams_cut: int = Field(default=0, description="Answers that were cut short by it, at the end of their drain.")
    receipt: tuple[CutView, ...] = Field(default=(), description="Which these are; of very many the first.")


class StageView(View):
    """Time in one stage; the elapsed times of all stages sum to the time since the request."""

    name: str
    since: str | None = Field(description="When it was last entered; null of one still to come.")
    elapsed_ms: int = Field(description="All time in it, of earlier visits too; 0 of one still to come.")
    is_current: bool
    is_upcoming: bool = Field(
        description="Still to come before it is ready. After a resume the same stage is listed as past, too."
    )
    eta_p50_ms: int | None = Field(
        description="What half of the like took: of the present stage what is left, of one to come the whole. "
        "Null if too little was seen, and of stages that are past."
    )
    eta_p90_ms: int | None = Field(description="The same of nine tenths.")
    reason: str = Field(description="Of the present stage only, as are the four below.")
    message: str = Field(description="Of a past download, too, if its model was in a cache.")
    progress: float | None = Field(
        default=None, ge=0, le=1, description="The part of the present stage that is done, where its worker says so."
    )
    waiting_on: str = Field(description="The service that must act next; empty if none.")
    deadline: str | None = Field(description="When the wait has taken too long.")


class ReplicasView(View):
    """How many copies should run, and how many may take traffic."""

    desired: int
    ready: int


class StatusView(View):
    """What we know of an endpoint."""

    stage: Stage
    reason: str = Field(description="Why it is in this stage, for programs.")
    message: str = Field(description="The same for people.")
    stages: tuple[StageView, ...] = Field(
        description="In the order of last entry up to the present one, then those still to come before it is ready."
    )
    causes: tuple[CauseView, ...] = Field(
        description="Why it does not serve, the one to look at first, with what would help; empty while it serves."
    )
    ready_eta_p50_at: str | None = Field(
        description="When half of the like were ready; null if too little was seen, or if it is not on its way there."
    )
    ready_eta_p90_at: str | None = Field(description="When nine tenths of the like were ready.")
    conditions: tuple[ConditionView, ...]
    url: str | None
    replicas: ReplicasView
    model_state: str = Field(description="absent, downloading, loading, loaded, warm or removed.")
    generation: int
    observed_generation: int = Field(description="The newest generation that an owner has answered.")
    last_operation: OperationView


class EndpointView(View):
    """An endpoint: what was asked for, and how it stands."""

    id: str
    name: str
    project_id: str
    created_at: str
    spec: EndpointSpec
    status: StatusView

    @property
    def etag(self) -> str:
        """The ETag of the answer: what `If-Match` compares with."""
        return f'"{self.status.generation}"'


class KeyView(View):
    """A key without its secret."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    models: tuple[str, ...] = ()
    allowed_ips: tuple[str, ...] = ()
    test: bool = False
    rotated_to: str | None = None
    last_used_at: str | None = Field(default=None, description="To the minute; null if it never was.")
    tokens_per_month: int | None = Field(
        default=None, description="Its budget, which its successors go on spending; null: only its project's."
    )
    money_per_month_nano: int | None = Field(default=None, description="The same in money.")
    limits: Limits | None = Field(default=None, description="Of a minute and at once, of this key alone.")


def endpoint_view(endpoint: Endpoint, ahead: WhyView, now_ms: int) -> EndpointView:
    """The endpoint as its tenant sees it at ``now_ms``, with what is ``ahead`` of it then."""
    assert endpoint.spec is not None, endpoint.id
    operations = endpoint.operations
    said = why(endpoint)
    return EndpointView(
        id=endpoint.id,
        name=endpoint.name,
        project_id=endpoint.project_id,
        created_at=rfc3339(created_ms(endpoint)),
        spec=endpoint.spec,
        status=StatusView(
            stage=endpoint.stage,
            reason=said.reason,
            message=said.message,
            stages=_stages(endpoint, ahead, now_ms),
            causes=ahead.causes,
            ready_eta_p50_at=ahead.ready_eta_p50_at,
            ready_eta_p90_at=ahead.ready_eta_p90_at,
            conditions=conditions_of(endpoint),
            url=url_of(endpoint) or None,
            replicas=_replicas(endpoint, endpoint.spec),
            model_state=_model_state(endpoint),
            generation=endpoint.generation,
            observed_generation=observed_generation(endpoint),
            last_operation=operation_view(endpoint, operations[-1]),
        ),
    )


def operation_view(endpoint: Endpoint, operation: Operation) -> OperationView:
    """One of the endpoint's operations."""
    return OperationView(
        id=operation.id,
        verb=operation.verb,
        endpoint_id=endpoint.id,
        generation=operation.generation,
        status=operation.outcome,
        message=operation.message,
        accepted_at=rfc3339(operation.accepted_ms),
        finished_at=rfc3339_or_none(operation.finished_ms),
        progress=progress(endpoint, operation),
        stage=endpoint.stage,
        cancellable=is_cancellable(endpoint, operation),
        pausable=is_pausable(endpoint, operation),
        paused=endpoint.rollout_paused and is_pausable(endpoint, operation),
        streams_cut=operation.streams_cut,
        receipt=tuple(
            CutView(request_id=each.request_id, completion_tokens=each.completion_tokens, cut_at=rfc3339(each.ended_ms))
            for each in operation.cut
        ),
    )


def key_view(key: Key) -> KeyView:
    """The key as its tenant sees it."""
    return KeyView(
        id=key.id,
        name=key.name,
        scopes=key.scopes,
        created_at=rfc3339(key.created_ms),
        expires_at=rfc3339_or_none(key.expires_at_ms),
        revoked_at=rfc3339_or_none(key.revoked_ms),
        models=key.models,
        allowed_ips=key.allowed_ips,
        test=key.is_test,
        rotated_to=key.successor or None,
        last_used_at=rfc3339_or_none(key.last_used_ms),
        tokens_per_month=key.tokens_per_month,
        money_per_month_nano=key.money_per_month_nano,
        limits=key.limits,
    )


def _stages(endpoint: Endpoint, ahead: WhyView, now_ms: int) -> tuple[StageView, ...]:
    present = next((each for each in ahead.stages if each.is_current), None)
    coming = (_upcoming(each) for each in ahead.stages if not each.is_current)
    return (*(_stage(endpoint, each, present, now_ms) for each in endpoint.visits), *coming)


def _upcoming(known: StageEtaView) -> StageView:
    return StageView(
        name=known.name,
        since=None,
        elapsed_ms=0,
        is_current=False,
        is_upcoming=True,
        eta_p50_ms=known.eta_p50_ms,
        eta_p90_ms=known.eta_p90_ms,
        reason="",
        message="",
        waiting_on="",
        deadline=None,
    )


def _stage(endpoint: Endpoint, visit: Visit, present: StageEtaView | None, now_ms: int) -> StageView:
    is_current = visit.stage is endpoint.stage
    known = present if is_current else None
    said = why(endpoint) if is_current else None
    present_ms = max(0, now_ms - visit.since_ms) if is_current else 0
    return StageView(
        name=visit.stage,
        since=rfc3339(visit.since_ms),
        elapsed_ms=visit.spent_ms + present_ms,
        is_current=is_current,
        is_upcoming=False,
        eta_p50_ms=known.eta_p50_ms if known else None,
        eta_p90_ms=known.eta_p90_ms if known else None,
        reason=said.reason if said else "",
        message=said.message if said else past_of(endpoint, visit.stage),
        progress=_progress(endpoint) if is_current else None,
        waiting_on=said.waiting_on if said else "",
        deadline=rfc3339_or_none(deadline_ms(endpoint)) if is_current else None,
    )


def _progress(endpoint: Endpoint) -> float | None:
    download = download_of(endpoint)
    if endpoint.stage is not Stage.DOWNLOADING_MODEL or download is None:
        return None
    return round(download.bytes_done / download.bytes_total, 3)


def _replicas(endpoint: Endpoint, spec: EndpointSpec) -> ReplicasView:
    going = endpoint.facts.holds(Fact.DELETION_REQUESTED) or endpoint.stage in (*HALTED, Stage.FAILED)
    decided = endpoint.decided.value if endpoint.decided else spec.scaling.min
    gone = endpoint.facts.holds(Fact.RUNTIME_REMOVED)
    ready = endpoint.ready.value if endpoint.ready and not gone else 0
    return ReplicasView(desired=0 if going else decided, ready=ready)


def _model_state(endpoint: Endpoint) -> str:
    return next((state for fact, state in MODEL_STATES if endpoint.facts.holds(fact)), "absent")
