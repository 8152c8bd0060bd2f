"""Node claims: a type with room, a machine, a node in the tenant cluster; and drained, removed and given back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from libs.twin import kinds
from libs.twin.cluster import Cluster
from libs.twin.controllers import nodes
from libs.twin.controllers.book import ClaimBook, tenant_key
from libs.twin.controllers.fitting import fits
from libs.twin.controllers.instances import Tenant, Tenants
from libs.twin.controllers.worklist import Key, Worklist
from libs.twin.objects import Json, condition, is_terminating, is_true, name_of, namespace_of, set_condition, uid_of
from libs.twin.options import Faults, NodeTypeOption, TwinOptions
from libs.twin.platform_rules import PREFIX, allows_node_type
from libs.twin.store import Store

PROVISIONED_SHARE: Final = 0.7  # Of the time a node takes to boot; the rest it needs to join.
UNPROVISIONED: Final = "provider could not provision the machine"
DRIFTED: Final = "its node type has another OS image"
LOST: Final = "the machine does not answer any more"


@dataclass(slots=True)
class _Course:
    scheduled_ms: int | None = None
    joined_ms: int | None = None
    fails: bool = False
    failed_ms: int | None = None
    deleted_ms: int | None = None
    removed_ms: int | None = None


class ClaimController:
    """Moves node claims, and keeps the books of each node type."""

    def __init__(
        self,
        store: Store,
        options: TwinOptions,
        faults: Callable[[], Faults],
        tenants: Tenants,
        book: ClaimBook,
    ) -> None:
        self.work = Worklist()
        self._store = store
        self._options = options
        self._faults = faults
        self._tenants = tenants
        self._book = book
        self._types = {each.name: each for each in options.node_types}
        self._courses: dict[str, _Course] = {}
        self._waiting: set[Key] = set()  # No machine was found for these.
        self._draining: dict[Key, set[Key]] = {}  # By tenant cluster: pods must leave their nodes first.
        self._told: dict[str, tuple[int, int, bool]] = {}
        self._is_counted = False

    def on_faults(self) -> None:
        """Types may have more or less room than was told."""
        self._is_counted = False

    def on_room(self) -> None:
        """Machines may be free that were not: look again at all that wait for one."""
        self.work.mark_all(self._waiting)

    def on_pods(self, tenant: Key) -> None:
        """Something moved inside a tenant cluster: look again at its nodes that are being drained."""
        self.work.mark_all(self._draining.get(tenant, ()))

    def on_node(self, tenant: Key, node: Json) -> None:
        """A node inside a tenant cluster changed; perhaps somebody deleted it."""
        if is_terminating(node):
            self.work.mark((PREFIX + tenant[0], name_of(node)))

    def step(self, now_ms: int) -> bool:
        """Look at the claims that something changed for, oldest first; whether there were any."""
        taken = self.work.take(now_ms)
        claims = [each for key in taken if (each := self._store.find(kinds.NODE_CLAIMS, *key)) is not None]
        self._waiting.difference_update(taken)
        for each in sorted(claims, key=lambda claim: (claim["metadata"]["creationTimestamp"], name_of(claim))):
            self._look(each, now_ms)
        if not taken and self._is_counted:
            return False
        self._count(now_ms)
        self._is_counted = True
        return True

    def _look(self, claim: Json, now_ms: int) -> None:
        course = self._courses.setdefault(uid_of(claim), _Course())
        tenant = self._tenants.get(tenant_key(claim))
        if is_terminating(claim):
            self._give_back(claim, course, tenant, now_ms)
        elif course.failed_ms is not None:
            self._retire(claim, course, now_ms)
        elif course.scheduled_ms is None:
            self._schedule(claim, course, now_ms)
        if course.scheduled_ms is not None and course.failed_ms is None and not is_terminating(claim):
            self._boot(claim, course, tenant, now_ms)

    def _schedule(self, claim: Json, course: _Course, now_ms: int) -> None:
        project = self._store.get(kinds.PROJECTS, "", namespace_of(claim).removeprefix(PREFIX))
        fitting = [each for each in self._types.values() if fits(claim, each)]
        allowed = [each for each in fitting if allows_node_type(project, each.name)]
        free = [each for each in allowed if self._has_room(each)]
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
        self._waiting.add(_key(claim))
        if not fitting:
            reason, message = "NoMatchingNodeType", "no node type matches the requirements"
        elif not allowed:
            reason, message = (
                "NodeTypeNotAllowed",
                f"project {name_of(project)} does not allow node type {fitting[0].name}",
            )
        else:
            reason, message = "NoCapacity", f"no capacity left for node type {allowed[0].name}"

        if claim["status"].get("message") == message:
            return

        def refuse(fresh: Json) -> None:
            fresh["status"].update(phase="Pending", reason=reason, message=message)
            set_condition(fresh, "Scheduled", False, now_ms, reason=reason, message=message, severity=True)

        self._store.edit(kinds.NODE_CLAIMS, claim, refuse)

    def _boot(self, claim: Json, course: _Course, tenant: Tenant | None, now_ms: int) -> None:
        assert course.scheduled_ms is not None, name_of(claim)
        boot_ms = self._options.scaled(self._options.node_boot_ms * self._faults().boot_factor)
        provisioned_ms = course.scheduled_ms + round(PROVISIONED_SHARE * boot_ms)
        joined_ms = course.scheduled_ms + boot_ms
        if not is_true(claim, "Provisioned"):
            if now_ms < provisioned_ms:
                self.work.at(_key(claim), provisioned_ms)
                return
            if course.fails:
                self._fail(claim, course, now_ms, reason="ProvisioningFailed", message=UNPROVISIONED)
                return
            claim = self._store.edit(
                kinds.NODE_CLAIMS, claim, lambda fresh: set_condition(fresh, "Provisioned", True, now_ms)
            )
        cluster = tenant.cluster if tenant is not None else None
        if not is_true(claim, "Joined"):
            if now_ms < joined_ms or cluster is None:
                self.work.at(_key(claim), joined_ms if now_ms < joined_ms else None)
                return
            claim = self._store.edit(kinds.NODE_CLAIMS, claim, lambda fresh: _join(fresh, now_ms))
            course.joined_ms = now_ms
            nodes.join(cluster, claim, self._types[claim["spec"]["typeRef"]], self._options, now_ms)
        elif cluster is None or course.joined_ms is None or self._is_struck(claim, course, cluster, now_ms):
            return
        else:
            ready_ms = course.joined_ms + self._options.scaled(self._options.gpu_ready_ms)
            if now_ms < ready_ms:
                self.work.at(_key(claim), ready_ms)
            else:
                nodes.offer_gpus(cluster, name_of(claim), self._types[claim["spec"]["typeRef"]])

    def _is_struck(self, claim: Json, course: _Course, cluster: Cluster, now_ms: int) -> bool:
        """Whether something happens to a node that has joined: it dies, loudly or not, or is deleted in its cluster."""
        faults, name = self._faults(), name_of(claim)
        if faults.lost_nodes:
            faults.lost_nodes -= 1
            nodes.drain(cluster, name, force=True)
            self._fail(claim, course, now_ms, reason="NodeLost", message=LOST)
        elif nodes.is_unwanted(cluster, name):
            self._store.delete(kinds.NODE_CLAIMS, claim, now_ms)
        elif faults.silent_nodes and name not in cluster.kubelet.silent:
            faults.silent_nodes -= 1
            nodes.silence(cluster, name, now_ms)
        elif faults.drifted_nodes and condition(claim, "NotDrifted") is None:
            faults.drifted_nodes -= 1
            self._store.edit(kinds.NODE_CLAIMS, claim, lambda fresh: _drift(fresh, now_ms))
        else:
            return False
        return True

    def _fail(self, claim: Json, course: _Course, now_ms: int, *, reason: str, message: str) -> None:
        course.failed_ms = now_ms

        def fail(fresh: Json) -> None:
            fresh["status"].update(phase="Failed", reason=reason, message=message)
            kind = "Joined" if is_true(fresh, "Joined") else "Provisioned"
            set_condition(fresh, kind, False, now_ms, reason=reason, message=message, severity=True)

        self._retire(self._store.edit(kinds.NODE_CLAIMS, claim, fail), course, now_ms)

    def _retire(self, claim: Json, course: _Course, now_ms: int) -> None:
        assert course.failed_ms is not None, name_of(claim)
        retry_ms = course.failed_ms + self._options.scaled(self._options.claim_retry_ms)
        if now_ms < retry_ms:
            self.work.at(_key(claim), retry_ms)
        else:
            self._store.delete(kinds.NODE_CLAIMS, claim, now_ms)

    def _give_back(self, claim: Json, course: _Course, tenant: Tenant | None, now_ms: int) -> None:
        key, tenant_of = _key(claim), tenant_key(claim)
        if course.deleted_ms is None:
            course.deleted_ms = now_ms
        if course.removed_ms is None:
            deadline_ms = course.deleted_ms + self._options.scaled(self._options.drain_deadline_ms)
            in_a_hurry = tenant is None or tenant.deleted_ms is not None or now_ms >= deadline_ms
            cluster = tenant.cluster if tenant else None
            # A kubelet that is dead confirms nothing, so nobody waits for its pods.
            in_a_hurry |= cluster is not None and name_of(claim) in cluster.kubelet.silent
            if cluster is not None and not nodes.drain(cluster, name_of(claim), force=in_a_hurry):
                self._draining.setdefault(tenant_of, set()).add(key)
                self.work.at(key, deadline_ms)
                return
            course.removed_ms = now_ms
            if not (peers := self._draining.get(tenant_of, set()) - {key}):
                self._draining.pop(tenant_of, None)
            else:
                self._draining[tenant_of] = peers
        gone_ms = course.removed_ms
        if course.scheduled_ms is not None:
            gone_ms += self._options.scaled(self._options.node_delete_ms * self._faults().delete_factor)
        if now_ms < gone_ms:
            self.work.at(key, gone_ms)
            return
        self.work.at(key, None)
        del self._courses[uid_of(claim)]
        self._store.remove(kinds.NODE_CLAIMS, claim)

    def _capacity(self, option: NodeTypeOption) -> int:
        return self._faults().capacity.get(option.name, option.capacity)

    def _has_room(self, option: NodeTypeOption) -> bool:
        return self._book.claimed(option.name) < self._capacity(option) and not self._faults().no_capacity

    def _count(self, now_ms: int) -> None:
        for each in self._types.values():
            claimed, has_room = self._book.claimed(each.name), self._has_room(each)
            total = claimed if self._faults().no_capacity else self._capacity(each)
            if self._told.get(each.name) == (claimed, total, has_room):
                continue
            self._told[each.name] = (claimed, total, has_room)

            def change(fresh: Json, claimed: int = claimed, total: int = total, has_room: bool = has_room) -> None:
                fresh["status"]["capacity"] = {"total": total, "claimed": claimed}
                set_condition(fresh, "Synced", True, now_ms)
                why = "" if has_room else "NoCapacity"
                set_condition(fresh, "HasCapacity", has_room, now_ms, reason=why, severity=True)

            self._store.edit(kinds.NODE_TYPES, self._store.get(kinds.NODE_TYPES, "", each.name), change)


def _key(claim: Json) -> Key:
    return namespace_of(claim), name_of(claim)


def _join(fresh: Json, now_ms: int) -> None:
    set_condition(fresh, "Joined", True, now_ms)
    set_condition(fresh, "Ready", True, now_ms)
    fresh["status"]["phase"] = "Available"
    for key in ("reason", "message"):
        fresh["status"].pop(key, None)


def _drift(fresh: Json, now_ms: int) -> None:
    set_condition(fresh, "NotDrifted", False, now_ms, reason="Drifted", message=DRIFTED, severity=True)
