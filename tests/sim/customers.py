"""Customers: they live with endpoints over the API's own verbs, impatiently, and remember what was promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from libs.common.errors import MillraceError
from libs.common.events.endpoint import EndpointSpec, Scaling, Stage
from libs.common.events.event import Owner
from libs.common.ids import OperationId, ProjectId, TenantId
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.core.status import OperationView
from tests.sim import naming
from tests.sim.hosts import ApiHost, Host
from tests.sim.wishes import ENDED, LIES, MODELS, TONE, Wish, Wishing

if TYPE_CHECKING:
    from tests.sim.world import Simulation

TENANT: Final = "acme"
PROJECT: Final = "default"
CALLER: Final = Caller(
    TenantId(TENANT), ProjectId(PROJECT), "key:aaaaaaaaaa", frozenset({"manage", "read", "inference"})
)
TIERS: Final[tuple[str, ...]] = ("h100-dedicated", "l40s-dedicated")
KINDS: Final = 16  # Of so many lives one is with what tiers sell by themselves,
NEWEST: Final = 15
NAMED: Final = 14  # and one with host names of the customers' own.
ENDPOINTS: Final = (1, 1, 2)  # Names in a run, one of these; few, so that each lives through much.
AT_REST: Final = frozenset({Stage.READY, Stage.PAUSED, Stage.DELETED})  # Whoever sees a failure has it repaired.


class Customers:
    """One tenant, a few endpoints, retries with the same Idempotency-Key after every lost answer."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation
        self.accepted: dict[OperationId, str] = {}  # Operation -> endpoint, for every 202 that was seen.
        self.tiers = TIERS
        self.buys_newest = simulation.seed % KINDS == NEWEST
        self.hosts = naming.HOSTS if simulation.seed % KINDS == NAMED else ()
        self._asked = 0
        self._endpoints_max = simulation.chance.choice(ENDPOINTS)
        self._known: dict[str, tuple[int, Endpoint]] = {}  # Parsed once a version: the checkers look at every step.
        self._endpoints: Sequence[Endpoint] = ()
        self._commits = -1
        self._retry: list[Wish] = []
        self._wishing = Wishing(simulation.chance, CALLER, self.hosts)

    def act(self) -> None:
        """Create, change one's mind, ask again because the answer was lost, or delete."""
        toss = self._sim.chance.random()
        if self._retry and toss < 0.5:
            self._ask(self._retry.pop())
        elif toss < 0.7 and self._asked < self._endpoints_max:
            self._asked += 1
            self._create(f"chat-{self._asked}", self._a_spec())
        elif living := self._living():
            endpoint = self._sim.chance.choice(living)
            if toss > 0.96:
                self._delete(endpoint.id)
            elif toss > 0.3:
                self._ask(self._wishing.of(endpoint))

    def stop(self) -> None:
        """No new wishes; only what was asked for and not answered is asked once more."""
        retry, self._retry = self._retry, []
        for wish in retry:
            self._ask(wish)

    def mend(self) -> None:
        """Whatever failed is asked for again."""
        for endpoint in self._living():
            if endpoint.stage is Stage.FAILED:
                self._ask(self._wishing.repair(endpoint))

    def wake(self) -> None:
        """Some of what sleeps is brought back; the rest goes from there."""
        for endpoint in self._living():
            if endpoint.stage in LIES and self._sim.chance.random() < 0.3:
                self._ask(self._wishing.resume(endpoint))

    def stir(self) -> None:
        """Most of what serves shall serve another model, some of it shall pause."""
        for endpoint in self._living():
            if endpoint.stage is Stage.READY and self._sim.chance.random() < 0.9:
                wishing = self._wishing
                draw = self._sim.chance.choice((*[wishing.change_model] * 3, wishing.pause))
                self._ask(draw(endpoint))

    def delete_all(self) -> None:
        """The end of the story: everything goes."""
        for endpoint in self.endpoints():
            if endpoint.stage is not Stage.DELETED:
                self._delete(endpoint.id)

    def endpoints(self) -> Sequence[Endpoint]:
        """Every endpoint there ever was, as endpoint-api has it."""
        host = self._sim.hosts[Owner.ENDPOINT_API]
        store = host.store
        if len(store.rows) == self._commits:  # Each commit has its row.
            return self._endpoints
        endpoints = host.runner("endpoint")
        for (kind, key), record in store.records.items():
            if kind == "endpoint" and self._known.get(key, (0, None))[0] != record.version:
                self._known[key] = (record.version, endpoints.parse(record))
        self._endpoints = [endpoint for _, (_, endpoint) in sorted(self._known.items()) if endpoint.is_requested]
        self._commits = len(store.rows)
        return self._endpoints

    def unrest(self) -> list[str]:
        """Endpoints that are still on their way."""
        return [f"{each.id} is {each.stage}" for each in self.endpoints() if each.stage not in AT_REST]

    def _a_spec(self) -> EndpointSpec:
        chance = self._sim.chance
        tier = chance.choice(self.tiers)
        scaling = Scaling(min=1, max=chance.choice((1, 1, 2)), target_concurrency=2)
        adapters = (TONE,) if chance.random() < 0.5 else ()
        model = chance.choice(MODELS)
        return EndpointSpec(
            model=model,
            tier=tier,
            region="eu-1",
            scaling=scaling,
            adapters=adapters,
            hostname=chance.choice(self.hosts) if self.hosts else "",
        )

    def _create(self, name: str, spec: EndpointSpec) -> None:
        ask = Ask(CALLER, name, f"create-{name}")
        self._ask(Wish(f"create {name}", lambda api: naming.create(api, ask, name, spec)))

    def _delete(self, endpoint_id: str) -> None:
        ask = Ask(CALLER, f"delete {endpoint_id}")
        self._ask(Wish(ask.request_id, lambda api: api.endpoints.delete(ask, endpoint_id)))

    def _ask(self, wish: Wish) -> None:
        def ask(host: Host) -> str:
            assert isinstance(host, ApiHost)
            try:
                operation = wish.ask(host.api)
            except MillraceError as refusal:
                return type(refusal).__name__
            assert isinstance(operation, OperationView), "nobody asked for a plan"
            self.accepted[OperationId(operation.id)] = operation.endpoint_id
            return str(operation.id)

        if not self._sim.on(Owner.ENDPOINT_API, wish.what, ask):
            self._retry.append(wish)

    def _living(self) -> list[Endpoint]:
        return [each for each in self.endpoints() if each.stage not in ENDED]
