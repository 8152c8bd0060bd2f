"""Virtual cluster instances: template, host namespace, control plane, Ready; and back to nothing."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Final

from libs.twin import kinds
from libs.twin.cluster import Cluster
from libs.twin.controllers.book import ClaimBook
from libs.twin.controllers.worklist import Key, Worklist
from libs.twin.licensing import objects_in
from libs.twin.objects import Json, is_terminating, is_true, set_condition, uid_of
from libs.twin.options import Faults, TwinOptions
from libs.twin.platform_rules import PREFIX
from libs.twin.rendering import Pool, Unrendered, render
from libs.twin.store import Store

DEFAULT_HOST: Final = "loft-cluster"
STEPS: Final = (
    ("SpaceSynced", 0.1),
    ("SpaceReady", 0.1),
    ("VirtualClusterDeployed", 0.5),
    ("VirtualClusterSynced", 0.5),
    ("VirtualClusterReady", 1.0),
    ("VirtualClusterOnline", 1.0),
)
"""Conditions after the template is resolved, in order, and which share of the boot time each takes."""


@dataclass(slots=True)
class Tenant:
    """What is known of one instance beside its object."""

    project: str
    name: str
    uid: str
    resolved_ms: int | None = None
    deleted_ms: int | None = None
    pools: tuple[Pool, ...] = ()
    claims_made: int = 0
    denial: str = ""
    cluster: Cluster | None = None


Tenants = MutableMapping[tuple[str, str], Tenant]


class InstanceController:
    """Boots tenant clusters and takes them down."""

    def __init__(  # What it acts on.
        self,
        store: Store,
        options: TwinOptions,
        faults: Callable[[], Faults],
        tenants: Tenants,
        book: ClaimBook,
        make_cluster: Callable[[Key], Cluster],
        on_turn: Callable[[Key], None],
    ) -> None:
        self.work = Worklist()
        self._store = store
        self._options = options
        self._faults = faults
        self._tenants = tenants
        self._book = book
        self._make_cluster = make_cluster
        self._on_turn = on_turn

    def step(self, now_ms: int) -> list[Key]:
        """Look at the instances that something changed for; which they were."""
        taken = self.work.take(now_ms)
        for key in taken:
            instance = self._store.find(kinds.INSTANCES, PREFIX + key[0], key[1])
            if instance is None:
                continue
            tenant = self._tenants.get(key)
            if tenant is None or tenant.uid != uid_of(instance):
                tenant = self._tenants[key] = Tenant(*key, uid_of(instance))
            if is_terminating(instance):
                self._take_down(key, instance, tenant, now_ms)
            else:
                self._bring_up(key, instance, tenant, now_ms)
        return taken

    def _bring_up(self, key: Key, instance: Json, tenant: Tenant, now_ms: int) -> None:
        host = (instance["spec"].get("clusterRef") or {}).get("cluster") or DEFAULT_HOST
        try:
            definition, tenant.pools = render(self._store, instance, _loft_values(tenant, host), self._features())
        except Unrendered as why:
            reason, message = why.reason, str(why)
            self._store.edit(kinds.INSTANCES, instance, lambda fresh: _refuse(fresh, tenant, reason, message, now_ms))
            return
        if tenant.resolved_ms is None:
            tenant.resolved_ms = now_ms
        boot_ms = self._options.scaled(self._options.cluster_boot_ms * self._faults().boot_factor)
        done = [name for name, share in STEPS if now_ms >= tenant.resolved_ms + round(share * boot_ms)]
        is_ready = tenant.cluster is not None or len(done) == len(STEPS)
        if not is_ready:
            self.work.at(key, tenant.resolved_ms + round(STEPS[len(done)][1] * boot_ms))
        elif tenant.cluster is None:
            tenant.cluster = self._make_cluster(key)
            tenant.cluster.make(objects_in(definition["objects"]))
            self._on_turn(key)

        def change(fresh: Json) -> None:
            _place(fresh, tenant, host)
            set_condition(fresh, "Scheduled", True, now_ms)
            set_condition(fresh, "TemplateResolved", True, now_ms)
            set_condition(fresh, "TemplateSynced", True, now_ms)
            for name in [name for name, _ in STEPS] if is_ready else done:
                set_condition(fresh, name, True, now_ms)
            fresh["status"]["virtualCluster"] = definition
            self._finish_status(fresh, tenant, is_ready, now_ms)

        self._store.edit(kinds.INSTANCES, instance, change)

    def _features(self) -> set[str]:
        return set(self._options.features) - set(self._faults().unlicensed)

    def _finish_status(self, fresh: Json, tenant: Tenant, is_ready: bool, now_ms: int) -> None:
        status = fresh["status"]
        for key in ("reason", "message"):
            status.pop(key, None)
        status["online"] = is_ready
        if not is_ready:
            status["phase"] = "Pending"
            status["reason"] = "VirtualClusterNotReady"
            status["message"] = "virtual cluster control plane is starting"
            set_condition(fresh, "Ready", False, now_ms, reason="VirtualClusterNotReady", severity=True)
            return
        status["phase"] = "Ready"
        status["kubernetesVersion"] = self._options.kubernetes_version
        claims = self._book.of((tenant.project, tenant.name))
        joined = sum(is_true(each, "Joined") and not is_terminating(each) for each in claims)
        wanted = sum(pool.quantity for pool in tenant.pools)
        message = tenant.denial or f"{joined} of {wanted} nodes joined"
        reason = "QuotaExceeded" if tenant.denial else "NodesPending"
        done = joined >= wanted
        set_condition(
            fresh,
            "NodesProvisioned",
            done,
            now_ms,
            reason="" if done else reason,
            message="" if done else message,
            severity=True,
        )
        set_condition(fresh, "Ready", True, now_ms)

    def _take_down(self, key: Key, instance: Json, tenant: Tenant, now_ms: int) -> None:
        if tenant.deleted_ms is None:
            tenant.deleted_ms = now_ms
            tenant.pools = ()
            self._on_turn(key)
        gone_ms = tenant.deleted_ms + self._options.scaled(
            self._options.cluster_delete_ms * self._faults().delete_factor
        )
        if now_ms < gone_ms:
            self.work.at(key, gone_ms)
        elif not self._book.of(key):
            if tenant.cluster is not None:
                tenant.cluster.kubelet.close(now_ms)
            self.work.at(key, None)
            del self._tenants[key]
            self._store.remove(kinds.INSTANCES, instance)


def _loft_values(tenant: Tenant, host: str) -> dict[str, str]:
    return {
        "name": tenant.name,
        "project": tenant.project,
        "projectNamespace": PREFIX + tenant.project,
        "cluster": host,
        "virtualClusterName": tenant.name,
        "virtualClusterNamespace": f"loft-{tenant.project}-v-{tenant.name}",
    }


def _place(fresh: Json, tenant: Tenant, host: str) -> None:
    namespace = f"loft-{tenant.project}-v-{tenant.name}"
    given = fresh["spec"].get("clusterRef") or {}
    fresh["spec"]["clusterRef"] = {
        "cluster": host,
        "namespace": namespace,
        "virtualCluster": tenant.name,
        **{k: v for k, v in given.items() if v},
    }


def _refuse(fresh: Json, tenant: Tenant, reason: str, message: str, now_ms: int) -> None:
    set_condition(fresh, "Scheduled", True, now_ms)
    set_condition(fresh, "TemplateResolved", False, now_ms, reason=reason, message=message, severity=True)
    if tenant.cluster is None:
        fresh["status"].update(phase="Failed", reason=reason, message=message)
        set_condition(fresh, "Ready", False, now_ms, reason=reason, message=message, severity=True)
