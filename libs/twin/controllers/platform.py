"""The Platform's own controllers, and which of them looks at what when something changes."""

from __future__ import annotations

from collections.abc import Callable

from libs.twin import kinds
from libs.twin.cluster import Cluster
from libs.twin.controllers.book import ClaimBook, tenant_key
from libs.twin.controllers.claims import ClaimController
from libs.twin.controllers.due import Due
from libs.twin.controllers.instances import InstanceController, Tenants
from libs.twin.controllers.pools import PoolController
from libs.twin.controllers.projects import ProjectController
from libs.twin.controllers.worklist import Key
from libs.twin.objects import Json, name_of, namespace_of
from libs.twin.options import Faults, TwinOptions
from libs.twin.platform_rules import PREFIX, PlatformRules
from libs.twin.store import Change, Store


class PlatformControllers:
    """Moves projects, instances, pools and claims; each looks only at what something changed for."""

    def __init__(  # What they act on.
        self,
        store: Store,
        options: TwinOptions,
        rules: PlatformRules,
        faults: Callable[[], Faults],
        tenants: Tenants,
        make_cluster: Callable[[Key], Cluster],
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._book = ClaimBook(store)
        self._projects = ProjectController(store, options)
        self._claims = ClaimController(store, options, faults, tenants, self._book)
        self._instances = InstanceController(
            store, options, faults, tenants, self._book, make_cluster, self._on_turn
        )  # fmt: skip
        self._pools = PoolController(store, rules, tenants, self._book, self._instances.work.mark)

    def step(self, now_ms: int) -> bool:
        """Each once over what it has to look at; whether there was anything."""
        busy = self._projects.step(now_ms)
        instances = self._instances.step(now_ms)
        self._pools.work.mark_all(instances)
        pools, claims = self._pools.step(now_ms), self._claims.step(now_ms)
        return bool(busy or instances or pools or claims)

    def next_ms(self) -> int | None:
        """When one of them has something to do by itself."""
        due = Due()
        for each in (self._projects, self._instances, self._pools, self._claims):
            due.at(each.work.next_ms())
        return due.at_ms

    def note(self, change: Change) -> None:
        """Something changed: who looks at it, and at what depends on it."""
        thing, counts = change.new, change.verb != "MODIFIED"
        match change.kind:
            case kinds.PROJECTS:
                self._projects.work.mark(("", name_of(thing)))
                self._on_room(name_of(thing))
            case kinds.INSTANCES:
                self._instances.work.mark(place_of(thing))
            case kinds.NODE_CLAIMS:
                self._book.note(change)
                self._claims.work.mark((namespace_of(thing), name_of(thing)))
                self._instances.work.mark(tenant_key(thing))
                self._pools.work.mark(tenant_key(thing))
            case kinds.TEMPLATES:
                self._instances.work.mark_all(self._tenants)
        if counts and change.kind.namespaced:
            project = namespace_of(thing).removeprefix(PREFIX)
            self._projects.work.mark(("", project))
            if change.verb == "DELETED":
                self._on_room(project)

    def on_pods(self, tenant: Key, change: Change) -> None:
        """Something moved inside a tenant cluster."""
        self._claims.on_pods(tenant)
        if change.kind is kinds.NODES:
            self._claims.on_node(tenant, change.new)

    def on_faults(self) -> None:
        """The world behaves otherwise from now on: everything is looked at once."""
        self._instances.work.mark_all(self._tenants)
        self._claims.on_faults()
        self._claims.work.mark_all(
            (namespace_of(each), name_of(each)) for each in self._store.all(kinds.NODE_CLAIMS)
        )  # fmt: skip

    def _on_turn(self, tenant: Key) -> None:
        """A cluster came up or is going: its claims may join, or hurry."""
        self._claims.work.mark_all((namespace_of(each), name_of(each)) for each in self._book.of(tenant))

    def _on_room(self, project: str) -> None:
        self._claims.on_room()
        self._pools.work.mark_all(
            key for key, tenant in self._tenants.items() if tenant.denial and key[0] == project
        )  # fmt: skip


def place_of(instance: Json) -> Key:
    """The project and the name of an instance."""
    return namespace_of(instance).removeprefix(PREFIX), name_of(instance)
