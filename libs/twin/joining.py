"""Nodes that a person joins: the command that the Platform gives out, and what becomes of a machine that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from libs.twin import kinds
from libs.twin.controllers.instances import Tenants
from libs.twin.controllers.worklist import Key
from libs.twin.objects import Json, is_terminating, name_of, namespace_of, set_condition
from libs.twin.platform_rules import PREFIX
from libs.twin.pods import GPU
from libs.twin.store import Change

PROFILE: Final = "vcluster.com/node-profile"


def join_script(instance: Json, host: str, spec: Json) -> Json:
    """The answer to a request for a join command."""
    token = hashlib.sha256(f"join|{instance['metadata'].get('uid')}".encode()).hexdigest()[:32]
    command = f"curl -fsSLk 'https://{host}/kubernetes/node/join?token={token}' | sh -"
    return {
        "kind": "VirtualClusterInstanceJoinScript",
        "apiVersion": f"{kinds.LOFT}/v1",
        "metadata": {"name": name_of(instance)},
        "spec": spec,
        "status": {"joinCommand": command},
    }


class Machines:
    """Machines of people. `dialing` are those that were still joined when their cluster went: nobody told them."""

    def __init__(self, tenants: Tenants, now_ms: Callable[[], int]) -> None:
        self.dialing: set[str] = set()
        self._tenants = tenants
        self._now_ms = now_ms
        self._joined: dict[Key, set[str]] = {}

    def join(self, tenant: Key, name: str, *, gpus: int, profile: str = "") -> None:
        """What the command does on a machine of somebody's: a Node, with no claim behind it."""
        cluster = self._tenants[tenant].cluster
        assert cluster is not None, f"{tenant} does not run yet"
        size = {"cpu": "96", "memory": "768Gi", "pods": "110", GPU: str(gpus)}
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            **({PROFILE: profile} if profile else {}),
        }
        node: Json = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": []},
            "status": {"capacity": dict(size), "allocatable": dict(size), "conditions": []},
        }
        words = "kubelet is posting ready status"
        set_condition(node, "Ready", True, self._now_ms(), reason="KubeletReady", message=words)
        cluster.store.create(kinds.NODES, node, self._now_ms())
        self._joined.setdefault(tenant, set()).add(name)

    def note(self, change: Change) -> None:
        """Take in a change: a cluster that begins to go leaves those behind that are still in it."""
        if change.kind is not kinds.INSTANCES or not self._joined or not is_terminating(change.new):
            return
        key = (namespace_of(change.new).removeprefix(PREFIX), name_of(change.new))
        tenant = self._tenants.get(key)
        joined = self._joined.pop(key, set())
        if tenant is not None and tenant.cluster is not None:
            self.dialing |= joined & {name_of(each) for each in tenant.cluster.store.all(kinds.NODES)}
