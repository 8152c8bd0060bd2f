"""Idempotency-Key over HTTP: each change there is happens once, and is answered the same again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from httpx2 import Response
from pydantic import BaseModel

from libs.common.keys import mint
from services.endpoint_api.core.domains import proof_of, record_of
from services.endpoint_api.core.requests import LEASE_MS
from services.endpoint_api.shell.doors.http import SHOWN_ONCE
from services.endpoint_api.shell.routes.app import ROUTERS
from services.endpoint_api.shell.routes.asking import CHANGES
from tests.unit.endpoint_api.given import BODY, PROGRESS, Stand

SAFE: Final = frozenset({"GET", "HEAD"})
HOOK: Final = {"url": "https://example.com/hook"}
Prepare = Callable[["Scene"], str]


def changing_routes() -> Iterator[APIRoute]:
    """Every route that is not only for reading."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and not methods_of(route) <= SAFE:
                yield route


def methods_of(route: APIRoute) -> frozenset[str]:
    """The methods of a route."""
    return frozenset(route.methods or ())


def depends_on(dependant: Dependant) -> Iterator[object]:
    """All that a route depends on, however deep."""
    for each in dependant.dependencies:
        yield each.call
        yield from depends_on(each)


class Scene:
    """A stand with a tenant's key, and an operator's who looks at that tenant."""

    def __init__(self) -> None:
        self.stand = Stand()
        self.mine = self.stand.headers()
        operator = mint(self.stand.entropy).plaintext
        self.stand.api.keys.record_operator(operator)
        self.operator = {"authorization": f"Bearer {operator}", "x-millrace-project": "acme"}

    def ask(self, method: str, path: str, body: object = None, *, key: str = "", of: str = "mine") -> Response:
        """The answer to a request of the tenant's key, or of the operator."""
        headers = {**(self.mine if of == "mine" else self.operator), **({"idempotency-key": key} if key else {})}
        return self.stand.client.request(method, path, json=body, headers=headers)

    def made(self, path: str, body: object, *, of: str = "mine") -> dict[str, Any]:
        """What a POST made."""
        response = self.ask("POST", path, body, of=of)
        assert response.is_success, response.text
        found: dict[str, Any] = response.json()
        return found


def endpoint(scene: Scene) -> str:
    """An endpoint that serves."""
    made = scene.made("/v1/endpoints", BODY)
    scene.stand.hear(made["endpoint_id"], PROGRESS)
    return str(made["endpoint_id"])


def paused(scene: Scene) -> str:
    """One that is paused."""
    ref = endpoint(scene)
    scene.made(f"/v1/endpoints/{ref}/pause", None)
    return ref


def operation(scene: Scene) -> str:
    """An operation that runs."""
    return str(scene.made("/v1/endpoints", BODY)["id"])


def rollout(scene: Scene) -> str:
    """An update that replaces replicas."""
    ref = endpoint(scene)
    answer = scene.ask("PATCH", f"/v1/endpoints/{ref}", {"spec": {"model": "millrace/ngram-1-large"}})
    return str(answer.json()["id"])


def held(scene: Scene) -> str:
    """One that is paused."""
    ref = rollout(scene)
    scene.made(f"/v1/operations/{ref}/pause", None)
    return ref


def key(scene: Scene) -> str:
    """A key."""
    return str(scene.made("/v1/keys", {"name": "ci", "scopes": ["read"]})["id"])


def inference_key(scene: Scene) -> str:
    """A key that a budget can bind."""
    return str(scene.made("/v1/keys", {"name": "ci", "scopes": ["inference"]})["id"])


def webhook(scene: Scene) -> str:
    """A webhook."""
    return str(scene.made("/v1/webhooks", HOOK)["webhook"]["id"])


def project(scene: Scene) -> str:
    """A project."""
    return str(scene.made("/v1/projects", {"id": "side"}, of="operator")["id"])


def member(scene: Scene) -> str:
    """A person with a role."""
    body = {"subject": "jane@acme.test", "role": "viewer"}
    return str(scene.made("/v1/members", body, of="operator")["id"])


def account(scene: Scene) -> str:
    """A service account of the project."""
    body = {"kind": "service_account", "subject": "ci", "role": "developer", "project_id": "main"}
    return str(scene.made("/v1/members", body, of="operator")["id"])


def provable(scene: Scene) -> str:
    """A zone that has the proof."""
    scene.stand.zones.said[record_of("acme.example")] = (proof_of("acme.example", "acme"),)
    return ""


def domain(scene: Scene) -> str:
    """A domain that is verified."""
    provable(scene)
    return str(scene.made("/v1/domains", {"domain": "acme.example"})["domain"])


def nothing(_scene: Scene) -> str:
    """Nothing needs to be there."""
    return ""


@dataclass(frozen=True, slots=True)
class Change:
    """A change, by its route: what must be there, the body, and one that asks for something else."""

    route: str
    given: Prepare
    body: object = None
    other: object = None
    of: str = "mine"

    @property
    def method(self) -> str:
        """The method."""
        return self.route.split()[0]

    def path(self, ref: str) -> str:
        """The path to what was prepared."""
        template = self.route.split()[1]
        start, end = template.find("{"), template.find("}")
        return "/v1" + (template if start < 0 else template[:start] + ref + template[end + 1 :])


CHANGES_THERE_ARE: Final = (
    Change("POST /endpoints", nothing, BODY, {**BODY, "name": "other"}),
    Change("PATCH /endpoints/{ref}", endpoint, {"spec": {"scaling": {"max": 2}}}, {"spec": {"scaling": {"max": 3}}}),
    Change("POST /endpoints/{ref}/scale", endpoint, {"scaling": {"max": 2}}, {"scaling": {"max": 3}}),
    Change("POST /endpoints/{ref}/pause", endpoint, {"drain_deadline_s": 1}, {"drain_deadline_s": 2}),
    Change("POST /endpoints/{ref}/drain", endpoint, {"drain_deadline_s": 1}, {"drain_deadline_s": 2}),
    Change("POST /endpoints/{ref}/resume", paused, None, {"by": "force"}),
    Change("DELETE /endpoints/{ref}", endpoint, None, {"by": "force"}),
    Change("POST /operations/{operation_id}/cancel", operation, None, {"by": "force"}),
    Change("POST /operations/{operation_id}/pause", rollout, None, {"by": "force"}),
    Change("POST /operations/{operation_id}/resume", held, None, {"by": "force"}),
    Change("POST /keys", nothing, {"name": "a", "scopes": ["read"]}, {"name": "b", "scopes": ["read"]}),
    Change("POST /keys/{key_id}/rotate", key, {"overlap_s": 1}, {"overlap_s": 2}),
    Change("PUT /keys/{key_id}/budget", inference_key, {"tokens_per_month": 1}, {"tokens_per_month": 2}),
    Change("DELETE /keys/{key_id}", key, None, {"by": "force"}),
    Change("POST /domains", provable, {"domain": "acme.example"}, {"domain": "other.example"}),
    Change("DELETE /domains/{domain}", domain, None, {"by": "force"}),
    Change("POST /webhooks", nothing, HOOK, {"url": "https://example.com/other"}),
    Change("DELETE /webhooks/{webhook_id}", webhook, None, {"by": "force"}),
    Change("POST /webhooks/{webhook_id}/enable", webhook, None, {"by": "force"}),
    Change("POST /webhooks/{webhook_id}/rotate", webhook, {"overlap_s": 1}, {"overlap_s": 2}),
    Change("POST /webhooks/{webhook_id}/test", webhook, None, {"by": "force"}),
    Change(
        "POST /tenants",
        nothing,
        {"id": "hooli", "display_name": "Hooli"},
        {"id": "hooli", "display_name": "Other"},
        of="operator",
    ),
    Change("PATCH /tenants/{tenant_id}", lambda _: "acme", {"display_name": "A"}, {"display_name": "B"}, of="operator"),
    Change("POST /projects", nothing, {"id": "side"}, {"id": "other"}, of="operator"),
    Change(
        "PATCH /projects/{project_id}", project, {"quota": {"endpoints": 1}}, {"quota": {"endpoints": 2}}, of="operator"
    ),
    Change("DELETE /projects/{project_id}", project, None, {"by": "force"}, of="operator"),
    Change(
        "POST /members",
        nothing,
        {"subject": "a@acme.test", "role": "viewer"},
        {"subject": "a@acme.test", "role": "owner"},
        of="operator",
    ),
    Change("DELETE /members/{member_id}", member, None, {"by": "force"}, of="operator"),
)
# These need more than one key of a test can do: an owner who manages, a delivery that was made.
ELSEWHERE: Final = frozenset(
    {"POST /members/{member_id}/keys", "POST /webhooks/{webhook_id}/deliveries/{event_id}/redeliver"}
)


def named(route: APIRoute) -> str:
    """A route's method and path, as the list has them."""
    return f"{min(methods_of(route))} {route.path}"


def test_every_change_begins_as_one_request() -> None:
    for route in changing_routes():
        assert CHANGES & set(depends_on(route.dependant)), f"{named(route)} takes no Idempotency-Key"


def test_every_change_is_tried_below() -> None:
    assert {named(each) for each in changing_routes()} == {each.route for each in CHANGES_THERE_ARE} | ELSEWHERE


def test_every_route_that_shows_a_secret_is_known() -> None:
    shown = {route.path for route in changing_routes() if SECRETS & fields_of(route.response_model)}

    assert shown == set(SHOWN_ONCE)


SECRETS: Final = frozenset({"key", "secret"})


def fields_of(model: Any) -> frozenset[str]:
    """The names of the fields that an answer has."""
    return frozenset(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else frozenset()


@pytest.mark.parametrize("change", CHANGES_THERE_ARE, ids=lambda change: change.route)
def test_a_change_with_a_key_happens_once_and_is_answered_the_same_again(change: Change) -> None:
    scene = Scene()
    path = change.path(change.given(scene))
    first = scene.ask(change.method, path, change.body, key="k1", of=change.of)
    assert first.is_success, first.text
    journal = changes_of(scene)

    again = scene.ask(change.method, path, change.body, key="k1", of=change.of)
    other = scene.ask(change.method, path, change.other, key="k1", of=change.of)

    if change.route.split()[1] in SHOWN_ONCE:
        assert (again.status_code, again.json()["code"]) == (409, SHOWN_ONCE[change.route.split()[1]])
        assert first.headers["cache-control"] == "no-store"
    else:
        assert (again.status_code, again.content) == (first.status_code, first.content)
        for header in ("location", "etag", *(["content-type"] if first.content else [])):
            assert again.headers.get(header) == first.headers.get(header)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert changes_of(scene) == journal


def changes_of(scene: Scene) -> int:
    """How many changes there were of anything but requests."""
    return sum(each.kind != "request" for each in scene.stand.store.rows)


def test_a_change_asked_for_sixteen_times_at_once_happens_once() -> None:
    scene = Scene()

    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda _: scene.ask("POST", "/v1/endpoints", BODY, key="k1"), range(16)))

    assert {each.status_code for each in said} <= {202, 409}
    assert len({each.content for each in said if each.status_code == 202}) == 1
    assert {each.json()["code"] for each in said if each.status_code == 409} <= {"request_in_progress"}
    assert scene.stand.stored()[0] == 1


def test_no_store_ever_has_a_secret() -> None:
    scene = Scene()
    secrets = [
        scene.ask("POST", "/v1/keys", {"name": "a", "scopes": ["read"]}, key="k1").json()["key"],
        scene.ask("POST", "/v1/webhooks", HOOK, key="k2").json()["secret"],
    ]

    everything = repr((scene.stand.store.records, scene.stand.store.rows, scene.stand.store.outbox))

    assert "rq-" in everything
    assert [each for each in secrets if each in everything] == []


def test_a_refusal_leaves_the_key_as_if_it_had_never_been_used() -> None:
    scene = Scene()

    refused = scene.ask("POST", "/v1/endpoints/chat/pause", None, key="k1")
    scene.made("/v1/endpoints", BODY)
    accepted = scene.ask("POST", "/v1/endpoints/chat/pause", None, key="k1")

    assert (refused.status_code, accepted.status_code) == (404, 202)


def test_the_same_while_the_first_is_being_worked_on_is_told_to_wait() -> None:
    scene = Scene()
    once = scene.stand.api.once
    with pytest.MonkeyPatch.context() as dead:
        dead.setattr(once, "drop", lambda _turn: None)  # It died before it could.
        scene.ask("POST", "/v1/endpoints/chat/pause", None, key="k1")
    scene.made("/v1/endpoints", BODY)

    waiting = scene.ask("POST", "/v1/endpoints/chat/pause", None, key="k1")
    scene.stand.clock.advance(LEASE_MS)
    done = scene.ask("POST", "/v1/endpoints/chat/pause", None, key="k1")

    assert (waiting.status_code, waiting.json()["code"]) == (409, "request_in_progress")
    assert (waiting.json()["retryable"], waiting.headers["retry-after"]) == (True, "1")
    assert done.status_code == 202


def test_a_plan_takes_no_key_away() -> None:
    scene = Scene()

    plan = scene.ask("POST", "/v1/endpoints?dry_run=true", BODY, key="k1")
    made = scene.ask("POST", "/v1/endpoints", BODY, key="k1")

    assert (plan.status_code, made.status_code) == (200, 202)


def test_the_order_of_keys_says_nothing() -> None:
    scene = Scene()
    scene.made("/v1/endpoints", BODY)
    spec = {"limits": {"requests_per_minute": 5}, "scaling": {"max": 2}}

    first = scene.ask("PATCH", "/v1/endpoints/chat", {"spec": spec}, key="k1")
    again = scene.ask("PATCH", "/v1/endpoints/chat", {"spec": dict(reversed(spec.items()))}, key="k1")

    assert (again.status_code, again.content) == (202, first.content)


def test_who_has_fewer_rights_is_not_shown_the_answer() -> None:
    scene = Scene()
    scene.ask("POST", "/v1/endpoints", BODY, key="k1")
    reader = scene.stand.a_key(scopes=frozenset({"inference"}))

    shown = scene.stand.client.post(
        "/v1/endpoints", json=BODY, headers={"authorization": f"Bearer {reader}", "idempotency-key": "k1"}
    )

    assert (shown.status_code, shown.json()["code"]) == (403, "missing_scope")


def test_each_project_has_its_own_keys() -> None:
    scene = Scene()
    scene.ask("POST", "/v1/endpoints", BODY, key="k1")

    theirs = scene.stand.client.post(
        "/v1/endpoints", json={**BODY, "name": "other"}, headers=scene.stand.headers("spy", **{"idempotency-key": "k1"})
    )

    assert theirs.status_code == 202
