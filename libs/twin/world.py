"""The simulated world: one Platform, its tenant clusters, and all that moves in them, on one clock, in one thread."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from libs.common.clock import Clock
from libs.twin import hosts, inventory, kinds
from libs.twin.answers import (
    ApiError,
    Response,
    answer,
    bad_request,
    no_such_path,
    not_found,
    throttled,
    unauthorized,
    unavailable,
)
from libs.twin.cluster import ROUNDS_MAX, Cluster
from libs.twin.controllers.due import Due
from libs.twin.controllers.instances import Tenant
from libs.twin.controllers.platform import PlatformControllers, place_of
from libs.twin.controllers.worklist import Key, Worklist
from libs.twin.engines_port import Engines
from libs.twin.entitlements import Entitlements
from libs.twin.joining import Machines
from libs.twin.kube import KubeFacade, PodTarget
from libs.twin.options import Faults, TwinOptions
from libs.twin.platform import PlatformFacade
from libs.twin.platform_rules import PREFIX, PlatformRules
from libs.twin.platform_seed import seed
from libs.twin.rest import Rest
from libs.twin.sight import Sight
from libs.twin.spoiling import spoiled
from libs.twin.store import Change, Store
from libs.twin.watching import Watch

MANAGEMENT: Final = "/kubernetes/management"
TENANT: Final = "/kubernetes/project/"
FAULTS: Final = "/twin/v1/faults"
INVENTORY: Final = "/twin/v1/inventory"
NETWORK: Final = int(ipaddress.IPv4Address("127.64.0.0"))
HOSTS: Final = 1 << 22  # 127.64.0.0/10: every address of it is this machine's, and nobody else's by habit.


class World:
    """Answers requests as a Platform and its tenant clusters would, and moves with its clock."""

    def __init__(self, clock: Clock, options: TwinOptions, engines: Engines) -> None:
        self.clock = clock
        self.options = options
        self.engines = engines
        self.faults = options.faults.model_copy()
        self.tenants: dict[Key, Tenant] = {}
        self.now_ms = clock.now_ms()
        self.store = Store(f"{options.seed}/management", history_max=options.history_max)
        seed(self.store, options, self.now_ms)
        self._rules = PlatformRules(self.store, options, self._faults, self._now)
        self._sight = Sight(self.store, self._faults, self._now)
        self._rest = Rest(self.store, kinds.PLATFORM_KINDS, self._rules, self._now, self._sight)
        self._entitlements = Entitlements(options)
        self._platform = PlatformFacade(self._rest, options, self._entitlements, self._now)
        self._controllers = PlatformControllers(
            self.store, options, self._rules, self._faults, self.tenants, self._make_cluster
        )
        self._due_ms: int | None = self.now_ms  # When something happens next by itself, if nothing else does.
        self._hosts = hosts.Hosts(options)
        self.machines = Machines(self.tenants, self._now)
        self._moving = Worklist()  # The tenant clusters in which something changed or is due.
        self.store.on_change = self._note

    def request(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes = b""
    ) -> Response:
        """Answer one request, as of now. A watch gives what there is to tell so far, and ends."""
        self.advance()
        try:
            headers = {key.lower(): value for key, value in headers.items()}
            opened = self.open(method, path, query, headers)
            if isinstance(opened, Watch):
                return Response(200, {"content-type": "application/json"}, b"".join(opened.lines()))
            if isinstance(opened, PodTarget):
                return self.engines.http(opened.key, method, opened.path, headers, body)
            return self.reply(method, path, query, headers, body)
        except ApiError as error:
            return error.response()

    def reply(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Response:
        """The answer to a request that `open` found to be no more than that."""
        try:
            return self._answer(method, path, query, headers, body)
        except ApiError as error:
            return error.response()

    def open(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Watch | PodTarget | None:
        """What a request opens that is more than one answer: a watch, or a way to a pod. Raises ApiError."""
        if path in {"/healthz", FAULTS, INVENTORY} or not path.startswith("/kubernetes/"):
            return None
        self._check_key(headers)
        self._check_faults()
        if path.startswith(MANAGEMENT) and method == "GET" and query.get("watch") in {"true", "1"}:
            return self._rest.watch(path.removeprefix(MANAGEMENT), query)
        if path.startswith(TENANT):
            facade, rest = self._tenant(path)
            if method == "GET" and query.get("watch") in {"true", "1"}:
                return facade.rest.watch(rest, query)
            return facade.proxied(rest, query)
        return None

    def advance(self) -> None:
        """Move everything to the clock's time: each thing at the time when it is due, in order."""
        target_ms = self.clock.now_ms()
        if self.engines.take_changed():
            for key, tenant in self.tenants.items():
                if tenant.cluster is not None:
                    tenant.cluster.poke()
                    self._moving.mark(key)
            self._due_ms = self.now_ms
        while self._due_ms is not None and self._due_ms <= target_ms:
            self.now_ms = max(self.now_ms, self._due_ms)
            self._due_ms = self._settle()
        self.now_ms = max(self.now_ms, target_ms)

    @property
    def due_ms(self) -> int | None:
        """When something will happen by itself, as far as the world has looked; None if nothing will."""
        return self._due_ms

    def next_due_ms(self) -> int | None:
        """When something will happen by itself; None if the world is at rest."""
        self.advance()
        return self._due_ms

    def close(self) -> None:
        """End everything that runs."""
        self.engines.close()

    def inventory(self) -> dict[str, object]:
        """Everything that exists."""
        self.advance()
        return inventory.take(self.store, self.tenants, self.engines)

    def set_faults(self, changes: Mapping[str, object]) -> None:
        """Change the trouble on order. Raises ApiError for what is none."""
        try:
            self.faults = Faults.model_validate({**self.faults.model_dump(), **changes})
        except ValidationError as wrong:
            raise bad_request(str(wrong)) from wrong
        self._due_ms = self.now_ms
        self._controllers.on_faults()
        self._moving.mark_all(self.tenants)
        for tenant in self.tenants.values():
            if tenant.cluster is not None:
                tenant.cluster.poke()

    def _settle(self) -> int | None:
        """Run every controller at `now_ms` until none has anything to do; gives when the next has."""
        for _ in range(ROUNDS_MAX):
            busy = self._controllers.step(self.now_ms)
            moving = self._moving.take(self.now_ms)
            for key in moving:
                tenant = self.tenants.get(key)
                if tenant is not None and tenant.cluster is not None:
                    self._moving.at(key, tenant.cluster.step(self.now_ms))
            if not busy and not moving:
                due = Due()
                due.at(self._controllers.next_ms())
                due.at(self._moving.next_ms())
                return due.at_ms
        raise AssertionError("the world never comes to rest")

    def _note(self, change: Change) -> None:
        self._due_ms = self.now_ms
        self._sight.note(change)
        if change.kind is kinds.NODE_CLAIMS:
            self._hosts.note(change, self.now_ms)
        self._controllers.note(change)
        self.machines.note(change)
        if change.kind is kinds.INSTANCES and change.verb == "DELETED":
            self._moving.at(place_of(change.new), None)

    def _note_inside(self, key: Key, change: Change) -> None:
        self._due_ms = self.now_ms
        self._moving.mark(key)
        self._controllers.on_pods(key, change)

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Response:
        if path == "/healthz":
            return Response(200, {"content-type": "text/plain"}, b"ok")
        if path == "/version":
            return answer({"version": "4.12.1", "major": "4", "minor": "12"})
        if path in {FAULTS, INVENTORY}:
            return self._control(method, path, body)
        if path.startswith(MANAGEMENT):
            true = self._platform.request(method, path.removeprefix(MANAGEMENT), query, headers, body)
            return spoiled(true, self.faults.answers)
        if path.startswith(hosts.PREFIX):
            return self._hosts.request(method, path.removeprefix(hosts.PREFIX), self.now_ms)
        if path.startswith(TENANT):
            facade, rest = self._tenant(path)
            return facade.request(method, rest, query, headers, body)
        raise no_such_path()

    def _control(self, method: str, path: str, body: bytes) -> Response:
        if path == INVENTORY:
            return answer(self.inventory())
        if method == "POST":
            try:
                changes = json.loads(body or b"{}")
            except ValueError as wrong:
                raise bad_request(f"not JSON: {wrong}") from wrong
            self.set_faults(changes)
        return answer(self.faults.model_dump())

    def _check_key(self, headers: Mapping[str, str]) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key.strip() not in self._entitlements.accepted:
            raise unauthorized()

    def _check_faults(self) -> None:
        if self.faults.unauthorized_calls:
            self.faults.unauthorized_calls -= 1
            raise unauthorized()
        if self.faults.unavailable_calls:
            self.faults.unavailable_calls -= 1
            raise unavailable("the server is currently unable to handle the request")
        if self.faults.throttled_calls:
            self.faults.throttled_calls -= 1
            raise throttled()

    def _tenant(self, path: str) -> tuple[KubeFacade, str]:
        steps = path.removeprefix(TENANT).split("/", 3)
        if len(steps) < 3 or steps[1] != "virtualcluster":
            raise no_such_path()
        project, name = steps[0], steps[2]
        instance = self.store.find(kinds.INSTANCES, PREFIX + project, name)
        if instance is None:
            raise not_found("virtualclusterinstances", name, kinds.LOFT)
        tenant = self.tenants.get((project, name))
        if (
            tenant is None
            or tenant.cluster is None
            or tenant.deleted_ms is not None
            or instance["status"].get("phase") != "Ready"
        ):
            raise unavailable(f"virtual cluster {name} is not ready yet")
        return KubeFacade(tenant.cluster, self.options), "/" + (steps[3] if len(steps) > 3 else "")

    def _make_cluster(self, key: Key) -> Cluster:
        cluster = Cluster("/".join(key), self.options, self._faults, self.engines, self._now, self._address_of)
        cluster.store.on_change = lambda change: self._note_inside(key, change)
        self._moving.mark(key)
        return cluster

    def _faults(self) -> Faults:
        return self.faults

    def _address_of(self, uid: str, port: int) -> str:
        taken = {
            address
            for each in self.tenants.values()
            if each.cluster is not None
            for address in each.cluster.kubelet.addresses()
        }
        for attempt in itertools.count():
            digest = hashlib.sha256(f"{self.options.seed}|{uid}|{attempt}".encode()).digest()
            host = int.from_bytes(digest[:4], "big") % HOSTS
            address = str(ipaddress.IPv4Address(NETWORK + host))
            if host % 256 not in {0, 255} and address not in taken and self.engines.is_free(address, port):
                return address
        raise AssertionError("unreachable")

    def _now(self) -> int:
        return self.now_ms
