"""Customers: they create and delete endpoints over the API's own verbs, impatiently, and remember what was promised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from libs.common.errors import MillraceError
from libs.common.events.endpoint import EndpointSpec, Scaling, Stage
from libs.common.events.event import Owner
from libs.common.ids import OperationId, ProjectId, TenantId
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.state import Endpoint
from tests.sim.hosts import ApiHost, Host

if TYPE_CHECKING:
    from tests.sim.world import Simulation

TENANT: Final = "acme"
PROJECT: Final = "default"
CALLER: Final = Caller(
    TenantId(TENANT), ProjectId(PROJECT), "key:aaaaaaaaaa", frozenset({"manage", "read", "inference"})
)
ENDPOINTS_MAX: Final = 2  # Names in a run; small, so that each lives through much.
CODEC: Final = TypeAdapter(Endpoint)
AT_REST: Final = frozenset({Stage.READY, Stage.DELETED})  # Nothing here is wrong for good, so nothing may fail.


class Customers:
    """One tenant, a few endpoints, retries with the same Idempotency-Key after every lost answer."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation
        self.accepted: dict[OperationId, str] = {}  # Operation -> endpoint, for every 202 that was seen.
        self._asked = 0
        self._known: dict[str, tuple[int, Endpoint]] = {}  # Parsed once a version: the checkers look at every step.
        self._retry: list[tuple[str, EndpointSpec]] = []

    def act(self) -> None:
        """Create, create again because the answer was lost, or delete."""
        toss = self._sim.chance.random()
        if self._retry and toss < 0.5:
            self._create(*self._retry.pop())
        elif toss < 0.7 and self._asked < ENDPOINTS_MAX:
            self._asked += 1
            self._create(f"chat-{self._asked}", self._a_spec())
        elif toss > 0.88:
            self._delete_one()

    def stop(self) -> None:
        """No new wishes; only what was asked for and not answered is asked once more."""
        for name, spec in self._retry:
            self._create(name, spec)
        self._retry.clear()

    def delete_all(self) -> None:
        """The end of the story: everything goes."""
        for endpoint in self.endpoints():
            if endpoint.stage is not Stage.DELETED:
                self._delete(endpoint.id)

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint there ever was, as endpoint-api has it."""
        store = self._sim.hosts[Owner.ENDPOINT_API].store
        for (kind, key), record in store.records.items():
            if kind == "endpoint" and self._known.get(key, (0, None))[0] != record.version:
                self._known[key] = (record.version, CODEC.validate_json(record.state))
        return [endpoint for _, (_, endpoint) in sorted(self._known.items()) if endpoint.is_requested]

    def unrest(self) -> list[str]:
        """Endpoints that are still on their way."""
        return [f"{each.id} is {each.stage}" for each in self.endpoints() if each.stage not in AT_REST]

    def _a_spec(self) -> EndpointSpec:
        chance = self._sim.chance
        tier = chance.choice(("h100-dedicated", "l40s-dedicated"))
        scaling = Scaling(min=1, max=chance.choice((1, 1, 2)), target_concurrency=2)
        return EndpointSpec(model="millrace/ngram-1", tier=tier, region="eu-1", scaling=scaling)

    def _create(self, name: str, spec: EndpointSpec) -> None:
        def ask(host: Host) -> str:
            assert isinstance(host, ApiHost)
            operation = host.api.endpoints.create(Ask(CALLER, name, f"create-{name}"), name=name, spec=spec)
            self.accepted[OperationId(operation.id)] = operation.endpoint_id
            return str(operation.id)

        if not self._sim.on(Owner.ENDPOINT_API, f"create {name}", ask):
            self._retry.append((name, spec))

    def _delete_one(self) -> None:
        living = sorted(each.id for each in self.endpoints() if each.stage is not Stage.DELETED)
        if not living:
            return
        self._delete(self._sim.chance.choice(living))

    def _delete(self, endpoint_id: str) -> None:
        def ask(host: Host) -> str:
            assert isinstance(host, ApiHost)
            try:
                operation = host.api.endpoints.delete(Ask(CALLER), endpoint_id)
            except MillraceError as refusal:
                return type(refusal).__name__
            self.accepted[OperationId(operation.id)] = endpoint_id
            return str(operation.id)

        self._sim.on(Owner.ENDPOINT_API, f"delete {endpoint_id}", ask)
