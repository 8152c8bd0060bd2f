"""The composed status: endpoints, operations and keys as those who asked for them see them, nothing of the Platform."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from libs.common.events.endpoint import EndpointSpec, Stage
from libs.common.events.facts import Fact
from services.endpoint_api.core.explain import deadline_ms, url_of, why
from services.endpoint_api.core.forgetting import OURS
from services.endpoint_api.core.lifecycle import HALTED
from services.endpoint_api.core.operations import is_cancellable, progress
from services.endpoint_api.core.state import Endpoint, Key, Operation, Visit

# The model's way, last first: the first fact that holds says how far it is.
MODEL_STATES: Final = (
    (Fact.RUNTIME_REMOVED, "removed"),
    (Fact.CACHE_WARMED, "warm"),
    (Fact.MODEL_LOADED, "loaded"),
    (Fact.MODEL_DOWNLOADED, "loading"),
    (Fact.IMAGE_PULLED, "downloading"),
)

# A condition holds while its fact does and none of those that undo it; the first of these that holds is the reason.
CONDITIONS: Final = (
    ("CapacityReady", Fact.GPU_READY, (Fact.CAPACITY_RELEASED,)),
    ("RuntimeReady", Fact.CACHE_WARMED, (Fact.RUNTIME_REMOVED, Fact.RUNTIME_DEGRADED)),
    ("RoutePublished", Fact.ROUTE_PUBLISHED, (Fact.ROUTE_WITHDRAWN,)),
)


class View(BaseModel):
    """A record of the HTTP contract. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(frozen=True)


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


class StageView(View):
    """Time in one stage; the elapsed times of all stages sum to the time since the request."""

    name: str
    since: str = Field(description="When it was last entered.")
    elapsed_ms: int = Field(description="All time in it, of earlier visits too.")
    is_current: bool
    reason: str = Field(description="Of the present stage only, as are the next three.")
    message: str
    waiting_on: str = Field(description="The service that must act next; empty if none.")
    deadline: str | None = Field(description="When the wait has taken too long.")


class ConditionView(View):
    """A condition in the manner of Kubernetes."""

    type: str
    status: str = Field(description="True or False.")
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int


class ReplicasView(View):
    """How many copies should run, and how many may take traffic."""

    desired: int
    ready: int


class StatusView(View):
    """What we know of an endpoint."""

    stage: Stage
    reason: str = Field(description="Why it is in this stage, for programs.")
    message: str = Field(description="The same for people.")
    stages: tuple[StageView, ...] = Field(description="In the order of last entry: the present one is last.")
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


def endpoint_view(endpoint: Endpoint, now_ms: int) -> EndpointView:
    """The endpoint as its tenant sees it at ``now_ms``."""
    assert endpoint.spec is not None, endpoint.id
    operations = endpoint.operations
    said = why(endpoint)
    return EndpointView(
        id=endpoint.id,
        name=endpoint.name,
        project_id=endpoint.project_id,
        created_at=rfc3339(endpoint.visits[0].since_ms),
        spec=endpoint.spec,
        status=StatusView(
            stage=endpoint.stage,
            reason=said.reason,
            message=said.message,
            stages=tuple(_stage(endpoint, each, now_ms) for each in endpoint.visits),
            conditions=_conditions(endpoint),
            url=url_of(endpoint) or None,
            replicas=_replicas(endpoint, endpoint.spec),
            model_state=_model_state(endpoint),
            generation=endpoint.generation,
            observed_generation=_observed_generation(endpoint),
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
        finished_at=_rfc3339(operation.finished_ms),
        progress=progress(endpoint, operation),
        stage=endpoint.stage,
        cancellable=is_cancellable(endpoint, operation),
    )


def key_view(key: Key) -> KeyView:
    """The key as its tenant sees it."""
    return KeyView(
        id=key.id,
        name=key.name,
        scopes=key.scopes,
        created_at=rfc3339(key.created_ms),
        expires_at=_rfc3339(key.expires_at_ms),
        revoked_at=_rfc3339(key.revoked_ms),
        models=key.models,
        allowed_ips=key.allowed_ips,
        test=key.is_test,
        rotated_to=key.successor or None,
    )


def rfc3339(at_ms: int) -> str:
    """Epoch milliseconds as people and programs exchange them."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rfc3339(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def _stage(endpoint: Endpoint, visit: Visit, now_ms: int) -> StageView:
    is_current = visit.stage is endpoint.stage
    said = why(endpoint) if is_current else None
    present_ms = max(0, now_ms - visit.since_ms) if is_current else 0
    return StageView(
        name=visit.stage,
        since=rfc3339(visit.since_ms),
        elapsed_ms=visit.spent_ms + present_ms,
        is_current=is_current,
        reason=said.reason if said else "",
        message=said.message if said else "",
        waiting_on=said.waiting_on if said else "",
        deadline=_rfc3339(deadline_ms(endpoint)) if is_current else None,
    )


def _conditions(endpoint: Endpoint) -> tuple[ConditionView, ...]:
    said = why(endpoint)
    ready = _condition(
        endpoint, "Ready", endpoint.stage is Stage.READY, said.reason, said.message, endpoint.visit.since_ms
    )
    return (ready, *(_from_facts(endpoint, *each) for each in CONDITIONS))


def _from_facts(endpoint: Endpoint, name: str, made: Fact, undoing: tuple[Fact, ...]) -> ConditionView:
    undone = next((fact for fact in undoing if endpoint.facts.holds(fact)), None)
    heard = endpoint.facts.of(undone or made)
    words = (undone or made).value.replace(".", "_").split("_")
    reason = "".join(word.title() for word in words)
    return _condition(
        endpoint,
        name,
        endpoint.facts.holds(made) and undone is None,
        reason if heard else f"Awaiting{reason}",
        "",
        heard.at_ms if heard else endpoint.visits[0].since_ms,
    )


def _condition(endpoint: Endpoint, name: str, holds: bool, reason: str, message: str, since_ms: int) -> ConditionView:
    return ConditionView(
        type=name,
        status=str(holds),
        reason=reason,
        message=message,
        last_transition_time=rfc3339(since_ms),
        observed_generation=_observed_generation(endpoint),
    )


def _replicas(endpoint: Endpoint, spec: EndpointSpec) -> ReplicasView:
    going = endpoint.facts.holds(Fact.DELETION_REQUESTED) or endpoint.stage in (*HALTED, Stage.FAILED)
    decided = endpoint.decided.value if endpoint.decided else spec.scaling.min
    gone = endpoint.facts.holds(Fact.RUNTIME_REMOVED)
    ready = endpoint.ready.value if endpoint.ready and not gone else 0
    return ReplicasView(desired=0 if going else decided, ready=ready)


def _model_state(endpoint: Endpoint) -> str:
    return next((state for fact, state in MODEL_STATES if endpoint.facts.holds(fact)), "absent")


def _observed_generation(endpoint: Endpoint) -> int:
    told = (each.generation for each in endpoint.facts.heard if each.fact not in OURS)
    return min(endpoint.generation, max(told, default=0))
