"""Conditions of an endpoint in the manner of Kubernetes: each is a fact, or the whole."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from libs.common.events.endpoint import Stage
from libs.common.events.facts import Fact
from services.endpoint_api.core.explain import why
from services.endpoint_api.core.forgetting import OURS
from services.endpoint_api.core.shown import View, rfc3339
from services.endpoint_api.core.state import Endpoint

# A condition holds while its fact does and none of those that undo it; the first of these that holds is the reason.
CONDITIONS: Final = (
    ("CapacityReady", Fact.GPU_READY, (Fact.CAPACITY_RELEASED,)),
    ("RuntimeReady", Fact.CACHE_WARMED, (Fact.RUNTIME_REMOVED, Fact.RUNTIME_DEGRADED)),
    ("RoutePublished", Fact.ROUTE_PUBLISHED, (Fact.ROUTE_WITHDRAWN,)),
)


class ConditionView(View):
    """A condition in the manner of Kubernetes."""

    type: str
    status: str = Field(description="True or False.")
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int


def conditions_of(endpoint: Endpoint) -> tuple[ConditionView, ...]:
    """All conditions, the whole first."""
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
        heard.at_ms if heard else created_ms(endpoint),
    )


def _condition(endpoint: Endpoint, name: str, holds: bool, reason: str, message: str, since_ms: int) -> ConditionView:
    return ConditionView(
        type=name,
        status=str(holds),
        reason=reason,
        message=message,
        last_transition_time=rfc3339(since_ms),
        observed_generation=observed_generation(endpoint),
    )


def created_ms(endpoint: Endpoint) -> int:
    """When it was asked for: all time in stages before now, reckoned back. The first visit may have moved since."""
    return endpoint.visit.since_ms - sum(each.spent_ms for each in endpoint.visits)


def observed_generation(endpoint: Endpoint) -> int:
    """The newest generation that an owner has answered."""
    told = (each.generation for each in endpoint.facts.heard if each.fact not in OURS)
    return min(endpoint.generation, max(told, default=0))
