"""Quotas: what an endpoint holds of them, and the exact moves of the counters when that changes.

A counter of a resource is the sum over all live endpoints of what each holds of it. `changes` gives the moves that keep
it so, for a tenant and for a project at once; the store takes all of them or none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from libs.common.decision import Give, Take
from libs.common.events.endpoint import EndpointSpec, Placement
from libs.common.events.tenant import EVERY_OTHER, Quota, Quotas

ENDPOINTS: Final = "endpoints"
REPLICAS: Final = "replicas"
GPUS: Final = "gpus"  # `gpus:<node class>`.
UNLIMITED: Final = 2**53 - 1  # More than anybody can ever hold, and exact in every JSON reader.


@dataclass(frozen=True, slots=True)
class Holding:
    """What one endpoint holds of its quotas."""

    endpoints: int
    replicas: int
    node_type: str
    gpus: int

    def resources(self) -> Counter[str]:
        """How much of each resource."""
        return Counter({ENDPOINTS: self.endpoints, REPLICAS: self.replicas, gpus_of(self.node_type): self.gpus})


def holding(spec: EndpointSpec, placement: Placement, *, runs: bool = True) -> Holding:
    """What an endpoint with this spec holds; with ``runs`` False (paused, failed) its place only."""
    replicas = spec.scaling.max if runs else 0
    return Holding(1, replicas, placement.node_type, replicas * placement.gpus_per_replica)


def covering(one: Holding, other: Holding) -> Holding:
    """What is enough for either: held while an update rolls, so that a rollback can't be over a quota."""
    assert one.node_type == other.node_type, "the tier, and with it the node class, never changes"
    return Holding(
        max(one.endpoints, other.endpoints),
        max(one.replicas, other.replicas),
        one.node_type,
        max(one.gpus, other.gpus),
    )


def changes(
    quotas: Quotas | None, *, tenant_id: str, project_id: str, before: Holding | None, after: Holding | None
) -> tuple[Take | Give, ...]:
    """The moves of all counters when an endpoint held ``before`` and holds ``after`` (None: it is not there).

    Without ``quotas`` nothing limits what is taken. In the order of the counters' names, so that two commits never wait
    for each other in a circle.
    """
    if before == after:  # As with most of what is heard.
        return ()
    moves = after.resources() if after else Counter[str]()
    moves.subtract(before.resources() if before else Counter[str]())
    both = quotas or Quotas()
    found: list[Take | Give] = []
    for project, quota in (("", both.tenant), (project_id, both.project)):
        for resource, amount in moves.items():
            counter = counter_of(resource, tenant_id=tenant_id, project_id=project)
            if amount > 0:
                found.append(Take(counter, amount, limit_of(quota, resource)))
            elif amount < 0:
                found.append(Give(counter, -amount))
    return tuple(sorted(found, key=lambda move: move.counter))


def gpus_of(node_type: str) -> str:
    """The resource that GPUs of a node class are."""
    return f"{GPUS}:{node_type}"


def counter_of(resource: str, *, tenant_id: str, project_id: str = "") -> str:
    """The store's counter of a resource in a tenant, or in a project of it."""
    return f"{resource}/{tenant_id}/{project_id}" if project_id else f"{resource}/{tenant_id}"


def limit_of(quota: Quota, resource: str) -> int:
    """The most of a resource that a quota allows."""
    kind, _, node_type = resource.partition(":")
    match kind:
        case "endpoints":
            limit = quota.endpoints
        case "replicas":
            limit = quota.replicas
        case _:
            limit = quota.gpus.get(node_type, quota.gpus.get(EVERY_OTHER))
    return UNLIMITED if limit is None else limit


def with_default(quota: Quota, *, endpoints: int) -> Quota:
    """The quota with the install's limit of endpoints where it says none."""
    return quota if quota.endpoints is not None else quota.model_copy(update={"endpoints": endpoints})


def tokens_of(*, tokens: int | None, nano: int | None) -> int | None:
    """The budget of tokens as routers are told it: one of money alone is served from slices of tokens too."""
    return UNLIMITED if tokens is None and nano is not None else tokens


def is_quota(counter: str) -> bool:
    """Whether a counter of the store is one of ours."""
    return counter.partition("/")[0].partition(":")[0] in (ENDPOINTS, REPLICAS, GPUS)


def above(quota: Quota, most: Quota) -> str:
    """The first field in which ``quota`` allows more than ``most``; empty if there is none."""
    for name in (
        "endpoints",
        "replicas",
        "requests_per_minute",
        "tokens_per_minute",
        "concurrency",
        "tokens_per_month",
        "money_per_month_nano",
    ):
        limit, bound = getattr(quota, name), getattr(most, name)
        if limit is not None and bound is not None and limit > bound:
            return name
    for node_type, limit in quota.gpus.items():
        if limit > limit_of(most, gpus_of(node_type)):
            return f"gpus.{node_type}"
    return ""


def over(counter: str, *, wanted: int, limit: int, held: int) -> str:
    """Why a change is refused: which quota, its limit, what is held, and what to do."""
    resource, _, place = counter.partition("/")
    tenant_id, _, project_id = place.partition("/")
    kind, _, node_type = resource.partition(":")
    what = f"GPUs of {node_type}" if node_type else kind
    whose = f"project {project_id}" if project_id else f"tenant {tenant_id}"
    whom = "an owner of the tenant" if project_id else "the operator"
    return (
        f"the {whose} may have {limit} {what} and holds {held}; this asks for {wanted} more: delete, pause or scale "
        f"down an endpoint, or ask {whom} for a higher quota"
    )
