"""What tests of endpoint-api begin with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final

from fastapi.testclient import TestClient

from libs.common.clock import ManualClock
from libs.common.decision import Decision
from libs.common.errors import Unavailable
from libs.common.events import capacity, route, runtime
from libs.common.events.endpoint import EndpointSpec, Placement
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.facts import Fact
from libs.common.events.tenant import Quota, Quotas
from libs.common.ids import EndpointId, ProjectId, TenantId, event_id
from libs.common.keys import Minted, mint
from libs.common.runner import Runner, Woke
from libs.common.service import Service
from libs.common.store.memory import MemoryStore
from services.endpoint_api.core.caller import Caller
from services.endpoint_api.core.catalogue import Catalogue
from services.endpoint_api.core.commands import CreateEndpoint, DeleteEndpoint, command_envelope
from services.endpoint_api.core.decide import decide
from services.endpoint_api.core.state import Endpoint, Key
from services.endpoint_api.service import build
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator
from services.endpoint_api.shell.catalogue import read_catalogue
from services.endpoint_api.shell.oidc import NoPeople, People
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.routes.app import create_app
from services.endpoint_api.shell.tenancy import Tenancy

NOW: Final = 1_800_000_000_000
ID: Final = EndpointId("ep-abcdefghij")
CATALOGUE_DIR: Final = Path(__file__).parents[3] / "deploy/catalogue"
CATALOGUE: Final = read_catalogue(CATALOGUE_DIR)
SPEC: Final = EndpointSpec(model="millrace/ngram-1", tier="l40s-dedicated", region="eu-1")
PLACEMENT: Final[Placement] = CATALOGUE.resolve(SPEC)
EVERYTHING: Final = frozenset({"inference", "read", "manage"})
BODY: Final[dict[str, Any]] = {"name": "chat", "spec": SPEC.model_dump(mode="json")}

REPLICA: Final = runtime.Replica(name="r0", url="http://127.64.0.2:8000")

# The facts of a create, in the order in which owners tell them when nothing goes wrong.
PROGRESS: Final[tuple[Event, ...]] = (
    capacity.CapacityQueued(),
    capacity.CapacityReserved(platform_project="mr-acme-main", cluster=ID, node_type="terraform.gpu-l40s", nodes=1),
    capacity.ClusterReady(platform_project="mr-acme-main", cluster=ID),
    capacity.NodesJoined(nodes=1),
    capacity.GpuReady(platform_project="mr-acme-main", cluster=ID, gpus=1),
    runtime.ImagePulled(),
    runtime.ModelDownloaded(),
    runtime.ModelLoaded(),
    runtime.CacheWarmed(replicas=(REPLICA,)),
    route.RoutePublished(url="http://127.0.0.1:8800/v1"),
)
TEARDOWN: Final[tuple[Event, ...]] = (route.RouteWithdrawn(), runtime.RuntimeRemoved(), capacity.CapacityReleased())
CAPACITY_FAILED: Final = capacity.CapacityFailed(reason="NodeTypeGone", message="there is no such node type")
RUNTIME_FAILED: Final = runtime.RuntimeFailed(reason="CrashLoopBackOff", message="the engine exits with 1")
DEGRADED: Final = runtime.RuntimeDegraded(reason="NoReplicaReady", message="0 of 1 replicas are ready")
RECOVERED: Final = runtime.RuntimeRecovered()


def told(data: Event, *, generation: int = 1, sequence: int = 1, about: str = ID, at_ms: int = NOW) -> Envelope:
    """The event as its owner would send it; its id follows from what it says."""
    cause = event_id(about, f"{data.kind}|{generation}|{sequence}", 0)
    return Envelope(cause, data, about, at_ms, generation, sequence)


def tellings(events: tuple[Event, ...], *, generation: int = 1, first: int = 1) -> tuple[Envelope, ...]:
    """Events with rising sequences."""
    return tuple(told(each, generation=generation, sequence=first + index) for index, each in enumerate(events))


def create(name: str = "chat", *, endpoints_max: int = 20, tenant: str = "acme") -> Envelope:
    """The command that makes the endpoint."""
    command = CreateEndpoint(
        tenant_id=tenant, project_id="main", name=name, spec=SPEC, placement=PLACEMENT, request_digest="d",
        quotas=Quotas(tenant=Quota(endpoints=endpoints_max)), actor="key:k",
    )  # fmt: skip
    return command_envelope(ID, command, NOW)


def delete() -> Envelope:
    """The command that ends the endpoint."""
    return command_envelope(ID, DeleteEndpoint(actor="key:k"), NOW)


def woke(due_ms: int) -> Envelope:
    """The clock."""
    return Envelope(event_id(ID, f"woke {due_ms}", 0), Woke(due_ms=due_ms), ID, due_ms)


def an_endpoint(*events: Envelope, now_ms: int = NOW) -> Endpoint:
    """The endpoint after a create and then ``events``, all at one time."""
    return reduce(lambda state, event: decide(state, event, now_ms).state, (create(), *events), Endpoint(ID))


def decided(*events: Envelope, now_ms: int = NOW) -> Decision[Endpoint]:
    """The decision on the last of ``events``, after all before it."""
    return decide(an_endpoint(*events[:-1], now_ms=now_ms), events[-1], now_ms)


def kinds(decision: Decision[Any]) -> list[str]:
    """What a decision tells, by kind."""
    return [each.kind for each in decision.events]


def fact_of(event: Event) -> Fact:
    """The fact that an event tells."""
    fact = type(event).fact
    assert fact is not None, event
    return fact


def a_caller(tenant: str = "acme", project: str = "main", scopes: frozenset[str] = EVERYTHING) -> Caller:
    """Somebody who asks."""
    return Caller(TenantId(tenant), ProjectId(project), "key:aaaaaaaaaa", scopes)


class CountingEntropy:
    """Bytes that differ each time and are the same in each run."""

    def __init__(self, seed: int = 1) -> None:
        self._next = seed

    def token_bytes(self, count: int) -> bytes:
        """The next number, spread over ``count`` bytes."""
        self._next += 1
        return (self._next * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << (8 * count))).to_bytes(count, "big")


@dataclass(slots=True)
class Zones:
    """DNS: the texts of names, or nobody who answers."""

    said: dict[str, tuple[str, ...]] = field(default_factory=dict)
    is_away: bool = False
    silent: set[str] = field(default_factory=set)  # Of these nobody answers.

    def texts(self, name: str) -> tuple[str, ...]:
        """What the zone says."""
        if self.is_away or name in self.silent:
            raise Unavailable("no DNS resolver answered")
        return self.said.get(name, ())


@dataclass(slots=True)
class Stand:
    """The whole service on a memory store, with its verbs and its HTTP app."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    catalogue: Catalogue = CATALOGUE
    endpoints_max: int = 20
    keys_max: int = 100
    ports: Ports = field(init=False)
    service: Service = field(init=False)
    api: Api = field(init=False)
    client: TestClient = field(init=False)
    entropy: CountingEntropy = field(default_factory=CountingEntropy)
    people: People = field(default_factory=NoPeople)
    zones: Zones = field(default_factory=Zones)

    def __post_init__(self) -> None:
        """Build it."""
        self.ports = Ports(
            self.store, self.clock, self.catalogue, self.entropy, endpoints_max=self.endpoints_max,
            keys_max=self.keys_max, dns=self.zones,
        )  # fmt: skip
        self.service = build(self.ports)
        self.api = Api(self.service, self.ports)
        app = create_app(
            self.api,
            Authenticator(self.service, self.ports, self.people),
            entropy=self.entropy,
        )
        self.client = TestClient(app, raise_server_exceptions=False)

    @property
    def endpoints(self) -> Runner[Endpoint]:
        """The runner of endpoints."""
        runner: Runner[Endpoint] = self.service.runners[0]
        return runner

    @property
    def tenancy(self) -> Tenancy:
        """The tenants and members as stored."""
        tenants, members, domains = (self.service.runner(each) for each in ("tenant", "member", "domain"))
        return Tenancy(tenants, members, domains, self.ports)

    @property
    def keys(self) -> Runner[Key]:
        """The runner of keys."""
        runner: Runner[Key] = self.service.runners[1]
        return runner

    def a_key(self, tenant: str = "acme", project: str = "main", scopes: frozenset[str] = EVERYTHING) -> str:
        """A key that is good, as the operator would record it."""
        minted: Minted = mint(self.entropy)
        held = sorted(scopes)
        self.api.keys.record(minted.plaintext, tenant_id=tenant, project_id=project, name="first", scopes=held)
        self.api.tenants.adopt(tenant, project)
        return minted.plaintext

    def headers(self, tenant: str = "acme", project: str = "main", **more: str) -> dict[str, str]:
        """Headers with a good key."""
        return {"authorization": f"Bearer {self.a_key(tenant, project)}", **more}

    def hear(self, endpoint_id: str, events: tuple[Event, ...], *, generation: int = 1, first: int = 1) -> None:
        """Have the service take events about an endpoint, as the bus would bring them."""
        for index, each in enumerate(events):
            self.service.handle(told(each, generation=generation, sequence=first + index, about=endpoint_id))

    def stored(self) -> tuple[int, int, int, dict[str, int]]:
        """How much is there: endpoints, journal rows, messages, counters. Nothing half created: it stays the same."""
        endpoints = sum(kind == "endpoint" for kind, _ in self.store.records)
        return endpoints, len(self.store.rows), len(self.store.outbox), dict(self.store.counters)
