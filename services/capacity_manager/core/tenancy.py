"""Where an endpoint's nodes are, by the tenancy of its tier: a tenant cluster of its own, or one that it shares.

| tenancy | the cluster is for | its nodes are for | on top |
|---|---|---|---|
| private_nodes | one endpoint | one endpoint | |
| tenant_cluster | one tenant's project, tier and region | all endpoints of that project | |
| shared_pool | a tier and region | endpoints of all tenants | |
| vnode | a tier and region | endpoints of all tenants | each pod in a sandbox of its own |

A cluster that is shared is nobody's: an endpoint writes its share on it, and its nodes are as many as shares need.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.common.events.endpoint import Placement
from libs.common.ids import ProjectId, TenantId, short_id
from services.capacity_manager.core.names import CLUSTER_LENGTH_MAX, cluster_name, project_name
from services.capacity_manager.core.state import NO_PROJECT, NO_TENANT, Claim


class Tenancy(StrEnum):
    """The four ways to be apart from others."""

    SHARED_POOL = "shared_pool"
    TENANT_CLUSTER = "tenant_cluster"
    PRIVATE_NODES = "private_nodes"
    VNODE = "vnode"


OF_ALL: Final = frozenset({Tenancy.SHARED_POOL, Tenancy.VNODE})
SHARED: Final = OF_ALL | {Tenancy.TENANT_CLUSTER}
POOL_PROJECT: Final = "mr-pool"  # No tenant's project is called so: those have a dash more.


@dataclass(frozen=True, slots=True)
class Home:
    """The Platform's project and tenant cluster of an endpoint. Without a tenant, it is the provider's own."""

    project: str
    cluster: str
    tenant_id: TenantId
    project_id: ProjectId
    is_shared: bool


def is_shared(placement: Placement | None) -> bool:
    """Whether the nodes of the tier carry more than one endpoint."""
    return placement is not None and placement.tenancy in SHARED


def home_of(claim: Claim) -> Home:
    """Where the endpoint lives; computed, so that every try of every process finds the same."""
    own = project_name(tenant_id=claim.tenant_id, project_id=claim.project_id)
    if claim.placement is None or claim.spec is None or not is_shared(claim.placement):
        return Home(own, cluster_name(claim.id), claim.tenant_id, claim.project_id, is_shared=False)
    cluster = shared_name(claim.spec.tier, claim.spec.region)
    if claim.placement.tenancy in OF_ALL:
        return Home(POOL_PROJECT, cluster, NO_TENANT, NO_PROJECT, is_shared=True)
    return Home(own, cluster, claim.tenant_id, claim.project_id, is_shared=True)


def pool_id(*, project: str, cluster: str) -> str:
    """What a shared cluster is called where it is told of: its name, or one computed if another project may have it."""
    return cluster if project == POOL_PROJECT else short_id("pl", project, cluster)


def is_pool_id(key: str) -> bool:
    """Whether it is what `pool_id` makes, and no endpoint's."""
    return key.startswith(("sc-", "pl-"))


def shared_name(tier: str, region: str) -> str:
    """The cluster of a tier in a region. It becomes part of a namespace's name, which has no dots."""
    plain = f"sc-{tier}-{region}"
    return plain if len(plain) <= CLUSTER_LENGTH_MAX and "." not in plain else short_id("sc", tier, region)
