"""Static pools: as many node claims as the rendered values ask for, and the idle ones first when it becomes fewer."""

from __future__ import annotations

from collections.abc import Callable

from libs.twin import kinds
from libs.twin.answers import ApiError
from libs.twin.controllers.book import ClaimBook
from libs.twin.controllers.instances import Tenant, Tenants
from libs.twin.controllers.worklist import Key, Worklist
from libs.twin.objects import Json, is_terminating, is_true, labels_of, name_of, suffix
from libs.twin.platform_rules import PREFIX, PlatformRules
from libs.twin.rendering import Pool
from libs.twin.store import Store

POOL_LABEL = "vcluster.com/node-pool"


class PoolController:
    """Makes and deletes the node claims of tenant clusters."""

    def __init__(
        self, store: Store, rules: PlatformRules, tenants: Tenants, book: ClaimBook, on_denial: Callable[[Key], None]
    ) -> None:
        self.work = Worklist()
        self._store = store
        self._rules = rules
        self._tenants = tenants
        self._book = book
        self._on_denial = on_denial

    def step(self, now_ms: int) -> bool:
        """Look at the pools of those clusters that something changed for; whether there were any."""
        taken = self.work.take(now_ms)
        for key in taken:
            tenant = self._tenants.get(key)
            if tenant is None or (tenant.cluster is None and tenant.deleted_ms is None):
                continue
            was, claims = tenant.denial, self._book.of(key)
            self._drop_orphans(tenant, claims, now_ms)
            for pool in tenant.pools:
                self._fill(tenant, pool, claims, now_ms)
            if tenant.denial != was:
                self._on_denial(key)
        return bool(taken)

    def _drop_orphans(self, tenant: Tenant, claims: list[Json], now_ms: int) -> None:
        names = {pool.name for pool in tenant.pools}
        for each in claims:
            if labels_of(each).get(POOL_LABEL) not in names and not is_terminating(each):
                self._store.delete(kinds.NODE_CLAIMS, each, now_ms)

    def _fill(self, tenant: Tenant, pool: Pool, claims: list[Json], now_ms: int) -> None:
        mine = [each for each in claims if labels_of(each).get(POOL_LABEL) == pool.name and not is_terminating(each)]
        surplus = len(mine) - pool.quantity
        if surplus > 0:
            for each in sorted(mine, key=lambda claim: self._first_to_go(tenant, claim))[:surplus]:
                self._store.delete(kinds.NODE_CLAIMS, each, now_ms)
        tenant.denial = "" if surplus >= 0 else tenant.denial
        for _ in range(-surplus):
            try:
                self._claim(tenant, pool, now_ms)
            except ApiError as refused:
                tenant.denial = refused.message
                break
            tenant.denial = ""

    def _claim(self, tenant: Tenant, pool: Pool, now_ms: int) -> None:
        instance = self._store.get(kinds.INSTANCES, PREFIX + tenant.project, tenant.name)
        name = f"{tenant.name}-{suffix(tenant.uid, pool.name, str(tenant.claims_made))}"
        claim: Json = {
            "metadata": {
                "name": name,
                "namespace": PREFIX + tenant.project,
                "labels": {**labels_of(instance), POOL_LABEL: pool.name},
            },
            "spec": {
                "providerRef": pool.provider,
                "vClusterRef": tenant.name,
                "controlPlane": False,
                "properties": dict(pool.properties),
                "requirements": [dict(each) for each in pool.requirements],
                "taints": [dict(each) for each in pool.taints],
                "desiredCapacity": {"cpu": "120m", "memory": "114Mi", "pods": "5"},
            },
        }
        if instance["spec"].get("owner"):
            claim["spec"]["owner"] = instance["spec"]["owner"]
        self._rules.default(kinds.NODE_CLAIMS, claim)
        self._rules.admit(kinds.NODE_CLAIMS, None, claim)
        self._store.create(kinds.NODE_CLAIMS, claim, now_ms)
        tenant.claims_made += 1

    def _first_to_go(self, tenant: Tenant, claim: Json) -> tuple[bool, int, int]:
        pods = len(tenant.cluster.pods_on(name_of(claim))) if tenant.cluster else 0
        return is_true(claim, "Joined"), pods, -int(claim["metadata"]["resourceVersion"])
