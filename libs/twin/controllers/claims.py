"""Node claims: a type with room, a machine, a node in the tenant cluster; and drained, removed and given back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from libs.twin import kinds
from libs.twin.controllers import nodes
from libs.twin.controllers.due import Due
from libs.twin.controllers.instances import Tenant, Tenants
from libs.twin.objects import Json, is_terminating, is_true, name_of, namespace_of, set_condition, uid_of
from libs.twin.options import Faults, NodeTypeOption, TwinOptions
from libs.twin.platform_rules import PREFIX, allows_node_type
from libs.twin.store import Store

PROVISIONED_SHARE = 0.7  # Of the time a node takes to boot; the rest it needs to join.


@dataclass(slots=True)
class _Course:
    scheduled_ms: int | None = None
    fails: bool = False
    failed_ms: int | None = None
    deleted_ms: int | None = None
    removed_ms: int | None = None


class ClaimController:
    """Moves node claims, and keeps the books of each node type."""

    def __init__(self, store: Store, options: TwinOptions, faults: Callable[[], Faults], tenants: Tenants) -> None:
        self._store = store
        self._options = options
        self._faults = faults
        self._tenants = tenants
        self._types = {each.name: each for each in options.node_types}
        self._courses: dict[str, _Course] = {}
        self.is_draining = False  # Some claim waits for pods to leave its node.

    def step(self, now_ms: int, due: Due) -> None:
        """Look at every claim, oldest first, then at every node type."""
        self.is_draining = False
        claims = self._store.all(kinds.NODE_CLAIMS)
        for each in sorted(claims, key=lambda claim: (claim["metadata"]["creationTimestamp"], name_of(claim))):
            course = self._courses.setdefault(uid_of(each), _Course())
            tenant = self._tenant_of(each)
            if is_terminating(each):
                self._give_back(each, course, tenant, now_ms, due)
            elif course.failed_ms is not None:
                self._retire(each, course, now_ms, due)
            elif course.scheduled_ms is None:
                self._schedule(each, course, now_ms)
            if course.scheduled_ms is not None and course.failed_ms is None and not is_terminating(each):
                self._boot(each, course, tenant, now_ms, due)
        self._count(now_ms)

    def _tenant_of(self, claim: Json) -> Tenant | None:
        return self._tenants.get((namespace_of(claim).removeprefix(PREFIX), claim["spec"].get("vClusterRef", "")))

    def _schedule(self, claim: Json, course: _Course, now_ms: int) -> None:
        project = self._store.get(kinds.PROJECTS, "", namespace_of(claim).removeprefix(PREFIX))
        fitting = [each for each in self._types.values() if _fits(claim, each)]
        allowed = [each for each in fitting if allows_node_type(project, each.name)]
        free = [each for each in allowed if self._claimed(each.name) < each.capacity and not self._faults().no_capacity]
        if free:
            course.scheduled_ms = now_ms
            faults = self._faults()
            course.fails = faults.failing_claims > 0
            if course.fails:
                faults.failing_claims -= 1
            chosen = min(free, key=lambda each: (each.gpus, each.name)).name

            def accept(fresh: Json) -> None:
                fresh["spec"]["typeRef"] = chosen
                set_condition(fresh, "Scheduled", True, now_ms)

            self._store.edit(kinds.NODE_CLAIMS, claim, accept)
            return
        if not fitting:
            reason, message = "NoMatchingNodeType", "no node type matches the requirements"
        elif not allowed:
            reason, message = (
                "NodeTypeNotAllowed",
                f"project {name_of(project)} does not allow node type {fitting[0].name}",
            )
        else:
            reason, message = "NoCapacity", f"no capacity left for node type {allowed[0].name}"

        def refuse(fresh: Json) -> None:
            fresh["status"].update(phase="Pending", reason=reason, message=message)
            set_condition(fresh, "Scheduled", False, now_ms, reason=reason, message=message, severity=True)

        self._store.edit(kinds.NODE_CLAIMS, claim, refuse)

    def _boot(self, claim: Json, course: _Course, tenant: Tenant | None, now_ms: int, due: Due) -> None:
        assert course.scheduled_ms is not None, name_of(claim)
        boot_ms = self._options.scaled(self._options.node_boot_ms * self._faults().boot_factor)
        provisioned_ms = course.scheduled_ms + round(PROVISIONED_SHARE * boot_ms)
        joined_ms = course.scheduled_ms + boot_ms
        if not is_true(claim, "Provisioned"):
            if now_ms < provisioned_ms:
                due.at(provisioned_ms)
                return
            if course.fails:
                course.failed_ms = now_ms
                self._store.edit(kinds.NODE_CLAIMS, claim, lambda fresh: _fail(fresh, now_ms))
                self._retire(claim, course, now_ms, due)
                return
            claim = self._store.edit(
                kinds.NODE_CLAIMS, claim, lambda fresh: set_condition(fresh, "Provisioned", True, now_ms)
            )
        if not is_true(claim, "Joined"):
            if now_ms < joined_ms or tenant is None or tenant.cluster is None:
                due.at(joined_ms if now_ms < joined_ms else None)
                return
            self._store.edit(kinds.NODE_CLAIMS, claim, lambda fresh: _join(fresh, now_ms))
            joined = self._store.get(kinds.NODE_CLAIMS, namespace_of(claim), name_of(claim))
            nodes.join(tenant.cluster, joined, self._types[joined["spec"]["typeRef"]], self._options, now_ms)
        elif tenant is not None and tenant.cluster is not None:
            ready_ms = max(joined_ms, course.scheduled_ms) + self._options.scaled(self._options.gpu_ready_ms)
            if now_ms < ready_ms:
                due.at(ready_ms)
            else:
                nodes.offer_gpus(tenant.cluster, name_of(claim), self._types[claim["spec"]["typeRef"]])

    def _retire(self, claim: Json, course: _Course, now_ms: int, due: Due) -> None:
        assert course.failed_ms is not None, name_of(claim)
        retry_ms = course.failed_ms + self._options.scaled(self._options.claim_retry_ms)
        if now_ms < retry_ms:
            due.at(retry_ms)
        else:
            self._store.delete(kinds.NODE_CLAIMS, claim, now_ms)

    def _give_back(self, claim: Json, course: _Course, tenant: Tenant | None, now_ms: int, due: Due) -> None:
        if course.deleted_ms is None:
            course.deleted_ms = now_ms
        if course.removed_ms is None:
            deadline_ms = course.deleted_ms + self._options.scaled(self._options.drain_deadline_ms)
            in_a_hurry = tenant is None or tenant.deleted_ms is not None or now_ms >= deadline_ms
            cluster = tenant.cluster if tenant else None
            if cluster is not None and not nodes.drain(cluster, name_of(claim), force=in_a_hurry):
                self.is_draining = True
                due.at(deadline_ms)
                return
            course.removed_ms = now_ms
        gone_ms = course.removed_ms
        if course.scheduled_ms is not None:
            gone_ms += self._options.scaled(self._options.node_delete_ms * self._faults().delete_factor)
        if now_ms < gone_ms:
            due.at(gone_ms)
            return
        del self._courses[uid_of(claim)]
        self._store.remove(kinds.NODE_CLAIMS, claim)

    def _claimed(self, node_type: str) -> int:
        return sum(each["spec"].get("typeRef") == node_type for each in self._store.all(kinds.NODE_CLAIMS))

    def _count(self, now_ms: int) -> None:
        for each in self._types.values():
            claimed = self._claimed(each.name)
            has_room = claimed < each.capacity and not self._faults().no_capacity

            def change(
                fresh: Json, each: NodeTypeOption = each, claimed: int = claimed, has_room: bool = has_room
            ) -> None:
                total = claimed if self._faults().no_capacity else each.capacity
                fresh["status"]["capacity"] = {"total": total, "claimed": claimed}
                set_condition(fresh, "Synced", True, now_ms)
                why = "" if has_room else "NoCapacity"
                set_condition(fresh, "HasCapacity", has_room, now_ms, reason=why, severity=True)

            self._store.edit(kinds.NODE_TYPES, self._store.get(kinds.NODE_TYPES, "", each.name), change)


def _fits(claim: Json, option: NodeTypeOption) -> bool:
    spec = claim["spec"]
    if spec.get("typeRef") not in {None, "", option.name} or spec["providerRef"] != option.name.split(".")[0]:
        return False
    properties = {
        "vcluster.com/node-type": {option.name},
        "node.kubernetes.io/instance-type": {option.name},
        "region": set(option.regions),
    }
    wanted = spec.get("properties", {}).get("region")
    if wanted and wanted not in option.regions and wanted != "loft-cluster":
        return False
    return all(_requirement_holds(each, properties.get(each["key"], set())) for each in spec.get("requirements") or ())


def _requirement_holds(requirement: Json, have: set[str]) -> bool:
    values = set(requirement.get("values") or ())
    match requirement["operator"]:
        case "In":
            return bool(values & have)
        case "NotIn":
            return not values & have
        case "Exists":
            return bool(have)
        case _:
            return not have


def _fail(fresh: Json, now_ms: int) -> None:
    message = "provider could not provision the machine"
    fresh["status"].update(phase="Failed", reason="ProvisioningFailed", message=message)
    set_condition(fresh, "Provisioned", False, now_ms, reason="ProvisioningFailed", message=message, severity=True)


def _join(fresh: Json, now_ms: int) -> None:
    set_condition(fresh, "Joined", True, now_ms)
    set_condition(fresh, "Ready", True, now_ms)
    fresh["status"]["phase"] = "Available"
    for key in ("reason", "message"):
        fresh["status"].pop(key, None)
