"""The six services as processes that can die: what they committed stays in their store, the rest is built anew."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from libs.common.bus.memory import Entry, MemoryBus
from libs.common.bus.port import Delivery
from libs.common.bus.streams import KEYS, ROUTES, consumers_of
from libs.common.errors import Invalid, Unavailable
from libs.common.events.event import Owner
from libs.common.events.tables import KeyEntry, RouteEntry
from libs.common.keys import Keyring
from libs.common.runner import Runner
from libs.common.service import Service
from libs.common.store.memory import MemoryStore
from libs.twin.inprocess import WorldRest, WorldTransport
from services.autoscaler import service as autoscaler
from services.autoscaler.shell.ports import Ports as AutoscalerPorts
from services.capacity_manager import service as capacity_manager
from services.capacity_manager.core.decide import Rules
from services.capacity_manager.core.pools import PoolRules
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.ports import Ports as CapacityPorts
from services.capacity_manager.shell.templates import Templates as ClusterTemplates
from services.capacity_manager.shell.templates import read_templates
from services.endpoint_api import service as endpoint_api
from services.endpoint_api.core.catalogue import Catalogue
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.catalogue import read_catalogue
from services.endpoint_api.shell.ports import Ports as ApiPorts
from services.metering import service as metering
from services.metering.core.windows import Windows
from services.metering.shell.ports import Ports as MeteringPorts
from services.router import service as router
from services.router.core.load import LoadMeter
from services.router.core.outside import Obstacle, Sight
from services.router.shell.engines.table import RouteTable
from services.router.shell.journal.memory import JournalFile, MemoryUsageJournal
from services.router.shell.ports import Ports as RouterPorts
from services.router.shell.told.load import LoadReporter
from services.router.shell.told.usage import UsageSender
from services.runtime_deployer import service as runtime_deployer
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.shell.caches import CacheWorld
from services.runtime_deployer.shell.connections import Connections
from services.runtime_deployer.shell.kubernetes import KubernetesClusters
from services.runtime_deployer.shell.ports import Ports as DeployerPorts
from services.runtime_deployer.shell.settings import TEMPLATES_DIR
from services.runtime_deployer.shell.templates import load_templates
from tests.sim.cloud import ACCESS_KEY, Zones

if TYPE_CHECKING:
    from tests.sim.world import Simulation

ROOT: Final = Path(__file__).parents[2]
INSTANCE: Final = "router-1"
WINDOW_MS: Final = 6_000
CONFIRM_GONE_MS: Final = 2_000
RESEND_MS: Final = 2_000


class Host:
    """One service's process, and what outlives it."""

    def __init__(self, simulation: Simulation, name: Owner, make: Callable[[Host], Service]) -> None:
        self.sim = simulation
        self.name = name
        self.consumers: Sequence[str] = [each.name for each in consumers_of(name)]
        self.store = MemoryStore(on_commit=self._at_commit)
        self.make = make
        self.boots = 0

    def boot(self) -> None:
        """Be born: build everything from what was committed."""
        self.boots += 1
        self.bus = MemoryBus(self.sim.broker)
        service = self.make(self)
        self.service = replace(service, read=self.sim.readings.by(service.read))
        for consumer in self.consumers:
            self.bus.subscribe(consumer, self.service.deliver)
        self.watch()
        self.bus.connect()

    def watch(self) -> None:
        """Buckets that it follows; most follow none."""

    def die(self) -> None:
        """Vanish, with everything that was not committed."""
        self.bus.disconnect()

    def relay(self) -> int:
        """One round of the outbox."""
        return self.service.relay(self.sim.publish).run()

    def tick(self) -> int:
        """One look at deadlines."""
        return self.service.tick().woken

    def reconcile(self) -> int:
        """One pass over the world."""
        return self.service.reconcile()

    def handle_without_answer(self, consumer: str, entry: Entry) -> str:
        """Handle a delivery whose answer never reaches the broker: it will come again."""
        entry.attempt += 1
        entry.due_ms = self.sim.clock.now_ms() + 30_000
        return type(self.service.deliver(Delivery(entry.message, consumer, entry.attempt))).__name__

    def states(self, kind: str) -> list[object]:
        """The states of one kind of owned thing, by key."""
        runner = self.runner(kind)
        return [runner.parse(each) for each in self.store.page(kind, limit=1000)]

    def runner(self, kind: str) -> Runner[Any]:
        """The runner of one kind of owned thing."""
        return next(each for each in self.service.runners if each.owned.kind == kind)

    def unrest(self) -> str:
        """What it still has to do; empty if nothing."""
        return f"{self.name} has {len(self.store.outbox)} messages to send" if self.store.outbox else ""

    def _at_commit(self, moment: str) -> None:
        self.sim.crash_maybe(self.sim.faults.crash_at_commit, f"{moment} commit")


class ApiHost(Host):
    """endpoint-api, with the face that customers see."""

    api: Api


class RouterHost(Host):
    """The router, with its data plane and its journal."""

    def __init__(self, simulation: Simulation, name: Owner, make: Callable[[Host], Service]) -> None:
        super().__init__(simulation, name, make)
        self.journal_file = JournalFile()
        self.journal_kind = MemoryUsageJournal
        self.obstacle = Obstacle.NONE
        self.requests: dict[str, object] = {}

    def boot(self) -> None:
        """Be born: tables from the buckets, the dead boots' requests billed."""
        self.table = RouteTable()
        self.keyring = Keyring()
        self.journal = self.journal_kind(f"b{self.boots + 1}", self.journal_file)
        self.sender = UsageSender(
            self.journal, self.sim.clock, instance=INSTANCE, boot_id=f"b{self.boots + 1}", resend_ms=RESEND_MS
        )
        self.load = LoadMeter(self.sim.clock.now_ms())
        self.reporter = LoadReporter(self.load, self.sim.clock, instance=INSTANCE, boot_id=f"b{self.boots + 1}")
        super().boot()
        self.journal.recover()

    def die(self) -> None:
        """Vanish, and the clients' sockets with it."""
        super().die()
        self.requests.clear()

    def watch(self) -> None:
        """Keys and routes come from their buckets."""
        self.bus.watch(ROUTES, self.table.change)
        self.bus.watch(KEYS, self._change_key)

    def _change_key(self, key_id: str, value: bytes | None) -> None:
        self.keyring.change(key_id, KeyEntry.model_validate_json(value) if value else None)

    def look(self, entry: RouteEntry) -> Sight:
        """As a client: nobody without a key, with one what the table lets in; nothing where something is in the way."""
        if self.obstacle is not Obstacle.NONE:
            return Sight("http://router/v1", self.obstacle, "ordered")
        held = self.table.held(entry.endpoint_id)
        is_let_in = held is not None and not held.paused
        return Sight("http://router/v1", without_key=401, with_key=200 if is_let_in else 404)

    def unrest(self) -> str:
        """Its own, and usage that is not yet in the ledger."""
        backlog = self.journal.backlog()
        return super().unrest() or (f"{backlog} requests are not in the ledger" if backlog else "")


@dataclass(slots=True)
class Effects:
    """The hook around every request that may change the world: it may be lost, or its answer, or the asker may die."""

    simulation: Simulation
    count: int = field(default=0)

    def before(self, method: str, path: str) -> None:
        """Perhaps it never arrives, or is refused for good."""
        if self.simulation.happens(self.simulation.faults.effect_refused):
            self.simulation.note("refused", method, path)
            raise Invalid("an admission webhook that somebody broke")
        if self.simulation.happens(self.simulation.faults.effect_lost):
            self.simulation.note("lost", method, path)
            raise Unavailable("the request was lost")

    def after(self, method: str, path: str, status: int) -> None:
        """It happened; perhaps nobody hears of it."""
        self.count += 1
        self.simulation.note("effect", method, path, status)
        self.simulation.crash_maybe(self.simulation.faults.crash_after_effect, f"after {method} {path}")
        if self.simulation.happens(self.simulation.faults.effect_answer_lost):
            raise Unavailable("the answer was lost")


def hosts(simulation: Simulation) -> dict[Owner, Host]:
    """The six processes of a run; none is born yet."""
    makers: dict[Owner, tuple[type[Host], Callable[[Host], Service]]] = {
        Owner.ENDPOINT_API: (ApiHost, _api),
        Owner.CAPACITY_MANAGER: (Host, _capacity(simulation)),
        Owner.RUNTIME_DEPLOYER: (Host, _deployer(simulation)),
        Owner.ROUTER: (RouterHost, _router),
        Owner.METERING: (Host, _metering),
        Owner.AUTOSCALER: (Host, _autoscaler),
    }
    return {owner: kind(simulation, owner, make) for owner, (kind, make) in makers.items()}


def _api(host: Host) -> Service:
    ports = ApiPorts(
        store=host.store,
        clock=host.sim.clock,
        catalogue=_catalogue(is_newest=host.sim.customers.buys_newest),
        dns=Zones(),
    )
    service = endpoint_api.build(ports)
    assert isinstance(host, ApiHost)
    host.api = Api(service, ports)
    return service


def _capacity(simulation: Simulation) -> Callable[[Host], Service]:
    # The client holds no state of ours, and is slow to make: it survives a death here.
    transport = WorldTransport(simulation.twin, Effects(simulation))
    client = PlatformClient(url="http://platform", key_file=_key_file(), transport=transport)

    def make(host: Host) -> Service:
        rules = Rules(confirm_gone_ms=CONFIRM_GONE_MS)
        platform = Platform(client, templates=_cluster_templates())
        pools = PoolRules(confirm_gone_ms=CONFIRM_GONE_MS, grace_ms=CONFIRM_GONE_MS)
        return capacity_manager.build(CapacityPorts(host.store, host.sim.clock, platform, rules=rules, pools=pools))

    return make


def _deployer(simulation: Simulation) -> Callable[[Host], Service]:
    # The connections hold no state of ours, and are slow to make: they survive a death here.
    connections = Connections(
        "http://platform", lambda: ACCESS_KEY, rest=lambda _: WorldRest(simulation.twin, Effects(simulation))
    )

    def make(host: Host) -> Service:
        clusters = KubernetesClusters(connections)
        return runtime_deployer.build(
            DeployerPorts(host.store, host.sim.clock, clusters, CacheWorld(connections), templates=simulation.templates)
        )

    return make


def _router(host: Host) -> Service:
    assert isinstance(host, RouterHost)
    ports = RouterPorts(
        store=host.store,
        clock=host.sim.clock,
        data_plane=host.table,
        outside=host,
        journal=host.journal,
        instance=INSTANCE,
        public_url="http://router/v1",
    )
    return router.build(ports)


def _metering(host: Host) -> Service:
    return metering.build(MeteringPorts(host.store, host.sim.clock, Windows(WINDOW_MS), host.sim.limits))


def _autoscaler(host: Host) -> Service:
    return autoscaler.build(AutoscalerPorts(host.store, host.sim.clock))


@cache
def _catalogue(*, is_newest: bool) -> Catalogue:
    """What is sold; in most lives as it was before, since caches of models take a tenth of a life."""
    sold = read_catalogue(ROOT / "deploy" / "catalogue")
    before = tuple(replace(each, runtime_templates=each.runtime_templates[::-1]) for each in sold.tiers)
    return sold if is_newest else replace(sold, tiers=before)


@cache
def _cluster_templates() -> ClusterTemplates:
    return read_templates()


@cache
def runtime_templates() -> Mapping[str, Template]:
    """The shipped templates of runtimes."""
    return load_templates(TEMPLATES_DIR)


@cache
def _key_file() -> Path:
    directory = tempfile.mkdtemp(prefix="millrace-sim-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = Path(directory) / "platform.key"
    path.write_text(ACCESS_KEY)
    return path
