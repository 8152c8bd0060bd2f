"""The kinds that the twin serves: where they live in the API, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, eq=False)  # Each is there once, and every look into a store is by one of them.
class Kind:
    """One kind of object, as its API addresses it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """`v1`, or `<group>/<version>`."""
        return f"{self.group}/{self.version}" if self.group else self.version


PODS: Final = Kind("", "v1", "pods", "Pod", subresources=("status", "proxy", "log", "eviction"))
NODES: Final = Kind("", "v1", "nodes", "Node", namespaced=False, subresources=("status",))
NAMESPACES: Final = Kind("", "v1", "namespaces", "Namespace", namespaced=False, subresources=("status",))
SERVICES: Final = Kind("", "v1", "services", "Service", subresources=("status",))
SECRETS: Final = Kind("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = Kind("", "v1", "configmaps", "ConfigMap")
SERVICE_ACCOUNTS: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS: Final = Kind("", "v1", "events", "Event")
VOLUME_CLAIMS: Final = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", subresources=("status",))
QUOTAS: Final = Kind("", "v1", "resourcequotas", "ResourceQuota", subresources=("status",))
DEPLOYMENTS: Final = Kind("apps", "v1", "deployments", "Deployment", subresources=("status", "scale"))
REPLICA_SETS: Final = Kind("apps", "v1", "replicasets", "ReplicaSet", subresources=("status",))
BUDGETS: Final = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", subresources=("status",))
NETWORK_POLICIES: Final = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
RUNTIME_CLASSES: Final = Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)

CLUSTER_KINDS: Final = (
    RUNTIME_CLASSES,
    PODS,
    NODES,
    NAMESPACES,
    SERVICES,
    SECRETS,
    CONFIG_MAPS,
    SERVICE_ACCOUNTS,
    EVENTS,
    VOLUME_CLAIMS,
    QUOTAS,
    DEPLOYMENTS,
    REPLICA_SETS,
    BUDGETS,
    NETWORK_POLICIES,
)

LOFT: Final = "management.loft.sh"
PROJECTS: Final = Kind(LOFT, "v1", "projects", "Project", namespaced=False, subresources=("status",))
TEMPLATES: Final = Kind(LOFT, "v1", "virtualclustertemplates", "VirtualClusterTemplate", namespaced=False)
INSTANCES: Final = Kind(LOFT, "v1", "virtualclusterinstances", "VirtualClusterInstance")
NODE_PROVIDERS: Final = Kind(LOFT, "v1", "nodeproviders", "NodeProvider", namespaced=False, subresources=("status",))
NODE_TYPES: Final = Kind(LOFT, "v1", "nodetypes", "NodeType", namespaced=False, subresources=("status",))
NODE_CLAIMS: Final = Kind(LOFT, "v1", "nodeclaims", "NodeClaim", subresources=("status",))
ENVIRONMENTS: Final = Kind(LOFT, "v1", "nodeenvironments", "NodeEnvironment", subresources=("status",))

PLATFORM_KINDS: Final = (PROJECTS, TEMPLATES, INSTANCES, NODE_PROVIDERS, NODE_TYPES, NODE_CLAIMS, ENVIRONMENTS)
