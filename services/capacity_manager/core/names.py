"""What things of ours are called on the Platform: computed, so that a second try finds what the first one made."""

from __future__ import annotations

from typing import Final

from libs.common.ids import EndpointId, ProjectId, TenantId, short_id

PROJECT_LENGTH_MAX: Final = 30  # With the cluster's name it must fit the host namespace `loft-<project>-v-<cluster>`.
CLUSTER_LENGTH_MAX: Final = 25  # platform.md 2.1: together at most 55 characters.


def project_name(*, tenant_id: TenantId, project_id: ProjectId) -> str:
    """The Platform project of a tenant's project. Two that read the same are told apart by their labels."""
    plain = f"mr-{tenant_id}-{project_id}"
    return plain if len(plain) <= PROJECT_LENGTH_MAX else short_id("mr", tenant_id, project_id)


def cluster_name(endpoint_id: EndpointId) -> str:
    """The VirtualClusterInstance of an endpoint."""
    return endpoint_id if len(endpoint_id) <= CLUSTER_LENGTH_MAX else short_id("ep", endpoint_id)


def gpu_counter(*, tenant_id: TenantId, node_type: str) -> str:
    """The counter of GPUs that a tenant holds of one node type."""
    return f"gpus/{tenant_id}/{node_type}"
