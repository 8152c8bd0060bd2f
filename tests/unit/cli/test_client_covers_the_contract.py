"""Every operation of the OpenAPI document has a method of the Python client, which asks for exactly that one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import httpx
import pytest

from libs.client import Json, Millrace, Refused
from libs.common.events.event import Owner
from libs.common.keys import mint
from libs.common.schemas.gate import ROOT
from libs.common.schemas.openapi import path_of
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.domains import proof_of, record_of
from tests.unit.endpoint_api.given import PROGRESS, SPEC, Stand, a_caller

SPEC_JSON: Final[Json] = SPEC.model_dump(mode="json")
FRAME: Final = 'id: 1\nevent: watch.ready\ndata: {"a": 1}\n\n'


@dataclass(slots=True)
class Scene:
    """The service with a tenant in it, a client with the key of its project, and one with the operator's."""

    stand: Stand = field(default_factory=Stand)
    asked: list[httpx.Request] = field(default_factory=list)
    made: int = 0
    client: Millrace = field(init=False)
    operator: Millrace = field(init=False)
    watcher: Millrace = field(init=False)

    def __post_init__(self) -> None:
        """Note what is asked."""
        http = cast(httpx.Client, self.stand.client)  # Of another release's httpx, with the same face.
        key = mint(self.stand.entropy).plaintext
        http.event_hooks["request"].append(self.asked.append)
        self.stand.api.keys.record_operator(key)
        self.client = Millrace("http://testserver", self.stand.a_key(), http=http)
        self.operator = Millrace("http://testserver", key, project="acme/main", http=http)
        self.watcher = Millrace(
            "http://testserver", "mr_x", http=httpx.Client(transport=httpx.MockTransport(self.tell))
        )

    def tell(self, request: httpx.Request) -> httpx.Response:
        """One event: TestClient reads an answer to its end, and a watch has none."""
        self.asked.append(request)
        return httpx.Response(200, text=FRAME, headers={"content-type": "text/event-stream"})

    def name(self) -> str:
        """One that nothing has yet."""
        self.made += 1
        return f"n{self.made}"

    def endpoint(self) -> str:
        """The name of a new endpoint."""
        name = self.name()
        self.stand.api.endpoints.create(Ask(a_caller(), name, name), name=name, spec=SPEC)
        return name

    def operation(self) -> str:
        """The id of an operation that runs."""
        return str(self.client.endpoints.create(self.name(), SPEC_JSON)["id"])

    def rollout(self) -> str:
        """The id of an update that replaces replicas."""
        name = self.endpoint()
        self.stand.hear(self.client.endpoints.get(name)["id"], PROGRESS)
        return str(self.client.endpoints.update(name, {"model": "millrace/ngram-1-large"})["id"])

    def key(self) -> str:
        """The id of a new key."""
        return str(self.client.keys.create(self.name())["id"])

    def tenant(self) -> str:
        """The id of a new tenant."""
        return str(self.operator.tenants.create(self.name(), "New")["id"])

    def project(self) -> str:
        """The id of a new project."""
        return str(self.operator.projects.create(self.name())["id"])

    def account(self) -> str:
        """The id of a new service account."""
        return str(self.operator.members.put(self.name(), "developer", kind="service_account")["id"])

    def webhook(self) -> str:
        """The id of a new webhook."""
        return str(self.client.webhooks.create("https://example.com/in")["webhook"]["id"])

    def provable(self) -> str:
        """A domain whose zone has the proof."""
        domain = f"{self.name()}.example"
        self.stand.zones.said[record_of(domain)] = (proof_of(domain, "acme"),)
        return domain

    def domain(self) -> str:
        """A domain that is verified."""
        return str(self.client.domains.verify(self.provable())["domain"])

    def event(self) -> tuple[str, str]:
        """A webhook, and an event that was delivered to it once; not kept here, so it is not found."""
        return self.webhook(), "0" * 32


CALLS: Final[Mapping[str, Callable[[Scene], object]]] = {
    "create_endpoint": lambda at: at.client.endpoints.create(at.name(), SPEC_JSON),
    "list_endpoints": lambda at: list(at.client.endpoints.list(tier=SPEC.tier, name_prefix="n")),
    "get_endpoint": lambda at: at.client.endpoints.get(at.endpoint()),
    "update_endpoint": lambda at: at.client.endpoints.update(at.endpoint(), {"limits": {"requests_per_minute": 9}}),
    "delete_endpoint": lambda at: at.client.endpoints.delete(at.endpoint(), drain_deadline_s=3),
    "scale_endpoint": lambda at: at.client.endpoints.scale(at.endpoint(), {"max": 2}),
    "pause_endpoint": lambda at: at.client.endpoints.pause(at.endpoint()),
    "drain_endpoint": lambda at: at.client.endpoints.drain(at.endpoint(), drain_deadline_s=3),
    "resume_endpoint": lambda at: at.client.endpoints.resume(at.endpoint(), dry_run=True),
    "why_endpoint": lambda at: at.client.endpoints.why(at.endpoint()),
    "watch_endpoint": lambda at: next(at.watcher.endpoints.watch("chat")),
    "watch_project": lambda at: next(at.watcher.watch()),
    "list_operations": lambda at: list(at.client.operations.list(status="running")),
    "get_operation": lambda at: at.client.operations.get(at.operation()),
    "pause_operation": lambda at: at.client.operations.pause(at.rollout()),
    "resume_operation": lambda at: at.client.operations.resume(at.rollout()),
    "cancel_operation": lambda at: at.client.operations.cancel(at.operation()),
    "create_key": lambda at: at.client.keys.create(at.name(), ["read"], expires_in_s=60, allowed_ips=["192.0.2.0/24"]),
    "list_keys": lambda at: at.client.keys.list(),
    "get_key": lambda at: at.client.keys.get(at.key()),
    "rotate_key": lambda at: at.client.keys.rotate(at.key(), overlap_s=60),
    "set_key_budget": lambda at: at.client.keys.set_budget(at.key(), tokens_per_month=1_000),
    "revoke_key": lambda at: at.client.keys.revoke(at.key()),
    "list_tiers": lambda at: at.client.offers.tiers(),
    "list_models": lambda at: at.client.offers.models(),
    "list_catalogue": lambda at: at.operator.offers.catalogue(),
    "create_tenant": lambda at: at.operator.tenants.create(at.name(), "A", quota={"endpoints": 1}, projects=["main"]),
    "list_tenants": lambda at: list(at.operator.tenants.list()),
    "get_tenant": lambda at: at.operator.tenants.get(at.tenant()),
    "change_tenant": lambda at: at.operator.tenants.change(at.tenant(), suspended=True),
    "list_projects": lambda at: at.client.projects.list(),
    "create_project": lambda at: at.operator.projects.create(at.name(), quota={"replicas": 1}),
    "change_project": lambda at: at.operator.projects.change(at.project(), quota={"gpus": {"*": 1}}),
    "remove_project": lambda at: at.operator.projects.remove(at.project()),
    "list_quotas": lambda at: at.client.projects.quotas(),
    "put_member": lambda at: at.operator.members.put("ada@acme.test", "viewer", project_id="main"),
    "list_members": lambda at: at.operator.members.list(),
    "remove_member": lambda at: at.operator.members.remove(at.account()),
    "create_member_key": lambda at: at.operator.members.create_key(at.account(), "first", expires_in_s=60),
    "list_audit": lambda at: at.client.audit.page(after=1, limit=2),
    "verify_domain": lambda at: at.client.domains.verify(at.provable()),
    "list_domains": lambda at: at.client.domains.list(),
    "get_domain": lambda at: at.client.domains.get("acme.example"),
    "release_domain": lambda at: at.client.domains.release(at.domain()),
    "create_webhook": lambda at: at.client.webhooks.create("https://example.com/in", ["endpoint.*"]),
    "list_webhooks": lambda at: at.client.webhooks.list(),
    "get_webhook": lambda at: at.client.webhooks.get(at.webhook()),
    "delete_webhook": lambda at: at.client.webhooks.delete(at.webhook()),
    "enable_webhook": lambda at: at.client.webhooks.enable(at.webhook()),
    "rotate_webhook_secret": lambda at: at.client.webhooks.rotate(at.webhook(), overlap_s=60),
    "test_webhook": lambda at: at.client.webhooks.test(at.webhook()),
    "list_webhook_deliveries": lambda at: at.client.webhooks.deliveries(at.webhook()),
    "redeliver_webhook": lambda at: at.client.webhooks.redeliver(*at.event()),
    "healthz": lambda at: at.client.health(),
}
NOT_THERE: Final = {
    "redeliver_webhook"
}  # Nothing was delivered in this scene: the service knows the route, not the event.


def operations() -> Iterator[tuple[str, str, str]]:
    """Method, path and operationId of each operation of the document, as it is published."""
    document = json.loads((ROOT / path_of(Owner.ENDPOINT_API)).read_text())
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "post", "patch", "put", "delete"):
                yield method, path, operation["operationId"]


OPERATIONS: Final = tuple(operations())


@pytest.fixture(scope="module")
def scene() -> Scene:
    """The service, for all of them: each makes what it needs."""
    return Scene()


def test_no_operation_is_missing_and_none_is_made_up() -> None:
    assert set(CALLS) == {operation for _, _, operation in OPERATIONS}


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[each[2] for each in OPERATIONS])
def test_a_method_asks_for_its_operation_as_the_document_has_it(
    scene: Scene, method: str, path: str, operation: str
) -> None:
    if operation in NOT_THERE:
        with pytest.raises(Refused, match="not_found"):
            CALLS[operation](scene)
    else:
        CALLS[operation](scene)

    last = scene.asked[-1]
    form = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
    assert last.method.lower() == method
    assert re.fullmatch(form, last.url.path), (last.url.path, path)
