"""The HTTP face: what is right is answered as promised, what is wrong gets a problem and leaves nothing behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from httpx2 import Response

from libs.common.errors import Unavailable
from libs.common.events.envelope import from_wire
from libs.common.keys import mint
from libs.common.store.memory import MemoryStore
from services.endpoint_api.shell.problems import MEDIA_TYPE
from tests.unit.endpoint_api.given import BODY, CATALOGUE, NOW, PROGRESS, TEARDOWN, CountingEntropy, Stand

CANARY: Final = "CANARY7f3a91"
FIELDS: Final = {"type", "title", "status", "detail", "code", "request_id", "retryable"}
RECIPES: Final = frozenset(name for tier in CATALOGUE.tiers for name in tier.runtime_templates)
HALF: Final = json.dumps({**BODY, "name": "chat\ud800"})  # Half a surrogate pair: a string, but no text.
LARGE: Final = json.dumps({**BODY, "pad": "x" * (64 * 1024)})


def assert_problem(response: Response, status: int, code: str, field: str = "") -> None:
    """The answer is an RFC 9457 problem of this kind that names the field and echoes nothing."""
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    assert set(body) - {"errors"} == FIELDS
    assert body["type"] == f"urn:millrace:problem:{code.replace('_', '-')}"
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["detail"]
    assert CANARY not in response.text
    if field:
        assert field in [each["field"] for each in body["errors"]]


def changed(**change: Any) -> dict[str, Any]:
    """A create whose spec is changed."""
    return {"name": "chat", "spec": {**BODY["spec"], **change}}


def test_a_create_is_accepted_with_an_operation_and_where_to_find_it() -> None:
    stand = Stand()
    headers = stand.headers()

    response = stand.client.post("/v1/endpoints", json=BODY, headers=headers)

    operation = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/operations/{operation['id']}"
    assert (operation["verb"], operation["status"], operation["generation"]) == ("create", "running", 1)
    found = stand.client.get(response.headers["location"], headers=headers)
    assert found.json() == operation


def test_an_endpoint_is_read_by_id_and_by_name_with_its_whole_status() -> None:
    stand = Stand()
    headers = stand.headers()
    created = stand.client.post("/v1/endpoints", json=BODY, headers=headers).json()
    stand.hear(created["endpoint_id"], PROGRESS[:3])
    stand.clock.advance(4_000)

    by_id = stand.client.get(f"/v1/endpoints/{created['endpoint_id']}", headers=headers).json()
    by_name = stand.client.get("/v1/endpoints/chat", headers=headers).json()

    assert by_id == by_name
    status = by_id["status"]
    assert by_id["spec"]["scaling"] == {"min": 1, "max": 1, "target_concurrency": 8, "idle_to_zero_s": None}
    assert status["stage"] == "joining_nodes"
    (present,) = [each for each in status["stages"] if each["is_current"]]
    assert (present["name"], present["elapsed_ms"], present["waiting_on"]) == (
        "joining_nodes",
        4_000,
        "capacity-manager",
    )
    upcoming = [each["name"] for each in status["stages"] if each["is_upcoming"]]
    assert (upcoming[0], upcoming[-1]) == ("preparing_gpu", "publishing_route")
    assert [each["code"] for each in status["causes"]] == ["working"]
    assert (status["ready_eta_p50_at"], status["ready_eta_p90_at"]) == (None, None)  # Nothing was learned yet.
    assert status["conditions"][0]["type"] == "Ready"
    assert status["conditions"][0]["status"] == "False"
    assert (status["url"], status["replicas"]) == (None, {"desired": 1, "ready": 0})
    assert status["last_operation"]["id"] == created["id"]


def test_nothing_of_the_platform_is_shown() -> None:
    """Names of runtime recipes are: they are the customer's to pin."""
    stand = Stand()
    headers = stand.headers()
    created = stand.client.post("/v1/endpoints", json=BODY, headers=headers).json()
    stand.hear(created["endpoint_id"], PROGRESS)

    shown = "".join(
        stand.client.get(path, headers=headers).text
        for path in ("/v1/endpoints", "/v1/endpoints/chat", "/v1/tiers", "/v1/models")
    )

    for hidden in ("terraform", "metal3", "node_type", "inference-l40s", "mr-acme", "127.64."):
        assert hidden not in shown
    for tier in stand.client.get("/v1/tiers", headers=headers).json()["items"]:
        assert set(tier["templates"]) <= RECIPES


def test_a_delete_is_accepted_and_ends() -> None:
    stand = Stand()
    headers = stand.headers()
    created = stand.client.post("/v1/endpoints", json=BODY, headers=headers).json()

    response = stand.client.delete("/v1/endpoints/chat", headers=headers)
    stand.hear(created["endpoint_id"], TEARDOWN, generation=2)

    assert response.status_code == 202
    operation = stand.client.get(response.headers["location"], headers=headers).json()
    assert (operation["verb"], operation["status"]) == ("delete", "succeeded")
    assert_problem(stand.client.get("/v1/endpoints/chat", headers=headers), 404, "not_found")
    assert stand.client.get("/v1/endpoints", headers=headers).json() == {"items": [], "next_cursor": None}


def test_lists_are_paged() -> None:
    stand = Stand()
    headers = stand.headers()
    for n in range(3):
        stand.client.post("/v1/endpoints", json={**BODY, "name": f"chat-{n}"}, headers=headers)

    first = stand.client.get("/v1/endpoints?limit=2", headers=headers).json()
    second = stand.client.get(f"/v1/endpoints?limit=2&cursor={first['next_cursor']}", headers=headers).json()

    assert (len(first["items"]), len(second["items"]), second["next_cursor"]) == (2, 1, None)


def test_a_key_is_shown_once_works_and_is_refused_once_revoked() -> None:
    stand = Stand()
    headers = stand.headers()

    made = stand.client.post("/v1/keys", json={"name": "ci", "scopes": ["read"]}, headers=headers)
    theirs = {"authorization": f"Bearer {made.json()['key']}"}

    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert made.headers["location"] == f"/v1/keys/{made.json()['id']}"
    assert stand.client.get("/v1/endpoints", headers=theirs).status_code == 200
    assert made.json()["key"] not in stand.client.get("/v1/keys", headers=headers).text
    assert_problem(stand.client.post("/v1/endpoints", json=BODY, headers=theirs), 403, "missing_scope")

    revoked = stand.client.delete(made.headers["location"], headers=headers)

    assert revoked.json()["revoked_at"] == "2027-01-15T08:00:00.000Z"
    assert_problem(stand.client.get("/v1/endpoints", headers=theirs), 401, "unauthorized")


def test_a_key_is_refused_from_the_moment_it_expires() -> None:
    stand = Stand()
    body = {"name": "ci", "scopes": ["read"], "expires_in_s": 60}
    made = stand.client.post("/v1/keys", json=body, headers=stand.headers()).json()
    theirs = {"authorization": f"Bearer {made['key']}"}

    stand.clock.advance(59_999)
    assert stand.client.get("/v1/endpoints", headers=theirs).status_code == 200
    stand.clock.advance(1)

    assert_problem(stand.client.get("/v1/endpoints", headers=theirs), 401, "unauthorized")


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Bearer", "Bearer ", f"Bearer {CANARY}", "Basic YTpi", mint(CountingEntropy(7)).plaintext,
        f"Bearer {mint(CountingEntropy(7)).plaintext}", f"Bearer  {mint(CountingEntropy(7)).plaintext}",
    ],
)  # fmt: skip
def test_every_wrong_key_gets_the_same_401(authorization: str | None) -> None:
    stand = Stand()
    headers = {"x-request-id": "r1", **({} if authorization is None else {"authorization": authorization})}

    response = stand.client.post("/v1/endpoints", json=BODY, headers=headers)

    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json() == stand.client.get("/v1/keys", headers={"x-request-id": "r1"}).json()
    assert stand.stored() == (0, 0, 0, {})


def test_a_key_with_one_wrong_character_is_refused() -> None:
    stand = Stand()
    key = stand.a_key()
    flipped = [key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :] for at in range(8, len(key))]

    statuses = {
        stand.client.get("/v1/keys", headers={"authorization": f"Bearer {each}"}).status_code for each in flipped
    }

    assert statuses == {401}


def adapter(**changes: object) -> dict[str, object]:
    return {"name": "tone", "source": "acme/tone-lora", "rank": 16, **changes}


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (changed(model=CANARY), "unknown_model", "spec.model"),
        (changed(tier=CANARY), "unknown_tier", "spec.tier"),
        (changed(region=CANARY), "unknown_region", "spec.region"),
        (changed(model=[CANARY]), "invalid", "spec.model"),
        (changed(scaling={"min": CANARY}), "invalid", "spec.scaling.min"),
        (changed(scaling={"min": "1"}), "invalid", "spec.scaling.min"),
        (changed(scaling={"min": True}), "invalid", "spec.scaling.min"),
        (changed(scaling={"min": 0}), "invalid", "spec.scaling.min"),
        (changed(scaling={"max": 10**30}), "invalid", "spec.scaling.max"),
        (changed(scaling={"min": 5, "max": 2}), "invalid", "spec.scaling"),
        (changed(scaling={"max": 64}), "too_many_replicas", "spec.scaling.max"),
        (changed(scaling=None), "invalid", "spec.scaling"),
        (changed(adapters=[adapter(name="../../etc")]), "invalid", "spec.adapters.0.name"),
        (changed(adapters=[adapter(source="../../etc/passwd")]), "invalid", "spec.adapters.0.source"),
        (changed(adapters=[adapter(source="acme/..")]), "invalid", "spec.adapters.0.source"),
        (changed(adapters=[adapter(source="/models/other")]), "invalid", "spec.adapters.0.source"),
        (changed(adapters=[adapter(rank=0)]), "invalid", "spec.adapters.0.rank"),
        (changed(adapters=[adapter(rank="16")]), "invalid", "spec.adapters.0.rank"),
        (changed(adapters=[adapter(), adapter(name="b", rank=128)]), "adapter_rank_too_high", "spec.adapters.1.rank"),
        (changed(adapters=[adapter(), adapter()]), "adapter_named_twice", "spec.adapters.1.name"),
        (changed(adapters=[adapter(name=f"a{n}") for n in range(9)]), "too_many_adapters", "spec.adapters"),
        (changed(scalling={}), "invalid", "spec.scalling"),
        (changed(limits={"requests_per_minut": 5}), "invalid", "spec.limits"),
        (changed(limits={CANARY: 5}), "invalid", "spec.limits"),
        (changed(**{f"{CANARY} x": 1}), "invalid", "spec.(unknown)"),
        ({"name": CANARY, "spec": BODY["spec"]}, "invalid", "name"),
        ({"name": "a" * 300, "spec": BODY["spec"]}, "invalid", "name"),
        ({"name": CANARY * 50, "spec": BODY["spec"]}, "invalid", "name"),
        ({"name": None, "spec": BODY["spec"]}, "invalid", "name"),
        ({"name": "chat"}, "invalid", "spec"),
        ({"spec": BODY["spec"]}, "invalid", "name"),
        ({}, "invalid", "name"),
        ([CANARY], "invalid", "body"),
        (CANARY, "invalid", "body"),
        (None, "invalid", "body"),
    ],
)
def test_a_wrong_create_names_the_field_and_leaves_nothing(body: object, code: str, field: str) -> None:
    stand = Stand()
    headers = stand.headers()
    before = stand.stored()

    response = stand.client.post("/v1/endpoints", json=body, headers=headers)

    assert_problem(response, 422, code, field)
    assert stand.stored() == before


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (f'{{"name": "{CANARY}"', "application/json", 400, "malformed_json"),
        (f"{CANARY}", "application/json", 400, "malformed_json"),
        (HALF, "application/json", 400, "malformed_request"),
        (HALF.encode("utf-16"), "application/json", 400, "malformed_request"),
        ("[" * 50_000, "application/json", 400, "malformed_request"),
        (b'{"name": "\xff\xfe"}', "application/json", 400, "malformed_request"),
        (LARGE, "application/json", 413, "body_too_large"),
        (json.dumps(BODY), "text/plain", 415, "unsupported_media_type"),
        (json.dumps(BODY), "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("", "application/json", 422, "invalid"),
    ],
)
def test_a_body_that_is_no_create_is_refused_and_leaves_nothing(
    content: str | bytes, kind: str, status: int, code: str
) -> None:
    stand = Stand()
    headers = stand.headers(**{"content-type": kind})
    before = stand.stored()

    response = stand.client.post("/v1/endpoints", content=content, headers=headers)

    assert_problem(response, status, code)
    assert stand.stored() == before


def test_a_wrong_field_is_said_with_the_reason_in_one_line() -> None:
    stand = Stand()

    few = stand.client.post("/v1/endpoints", json=changed(scaling={"min": -1}), headers=stand.headers())
    crossed = stand.client.post("/v1/endpoints", json=changed(scaling={"min": 5, "max": 2}), headers=stand.headers())

    assert few.json()["detail"] == "wrong fields: spec.scaling.min (Input should be greater than or equal to 1)"
    assert crossed.json()["detail"].startswith("wrong fields: spec.scaling (scaling.min is 5")


def test_a_body_of_unknown_length_is_cut_at_the_limit() -> None:
    stand = Stand()
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        for n in range(1_000):
            taken.append(n)
            yield b"x" * 1024

    response = stand.client.post(
        "/v1/endpoints", content=endless(), headers=stand.headers(**{"content-type": "application/json"})
    )

    assert_problem(response, 413, "body_too_large")


def test_a_body_just_within_the_limit_is_read() -> None:
    stand = Stand()
    text = json.dumps(BODY)
    padded = text + " " * (64 * 1024 - len(text))

    headers = stand.headers(**{"content-type": "application/json; charset=utf-8"})

    assert stand.client.post("/v1/endpoints", content=padded, headers=headers).status_code == 202
    assert stand.client.post("/v1/endpoints", content=padded + " ", headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/{CANARY}", 404, "no_such_route"),
        ("GET", "/v1/", 404, "no_such_route"),
        ("GET", "/v1/endpoints/", 404, "no_such_route"),
        ("PUT", "/v1/endpoints", 405, "method_not_allowed"),
        ("PUT", f"/v1/endpoints/{CANARY}", 405, "method_not_allowed"),
        ("PATCH", f"/v1/endpoints/{CANARY}", 422, "invalid"),
        ("OPTIONS", "/v1/endpoints", 405, "method_not_allowed"),
        ("TRACE", "/v1/endpoints", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("GET", f"/v1/endpoints/{CANARY}", 404, "not_found"),
        ("GET", "/v1/endpoints/a%00b", 404, "not_found"),
        ("GET", "/v1/endpoints/%ff", 404, "not_found"),
        ("DELETE", f"/v1/endpoints/{CANARY}", 404, "not_found"),
        ("GET", f"/v1/operations/{CANARY}", 404, "not_found"),
        ("GET", "/v1/operations/op-aaaaaaaaaa-0", 404, "not_found"),
        ("DELETE", f"/v1/keys/{CANARY}", 404, "not_found"),
        ("GET", "/v1/endpoints?limit=many", 422, "invalid"),
        ("GET", "/v1/endpoints?limit=0", 422, "invalid"),
        ("GET", f"/v1/endpoints?cursor={CANARY}", 422, "invalid"),
    ],
)
def test_every_wrong_path_is_a_problem(method: str, path: str, status: int, code: str) -> None:
    stand = Stand()

    response = stand.client.request(method, path, headers=stand.headers())

    assert_problem(response, status, code)


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
def test_an_idempotency_key_of_the_wrong_form_is_refused(key: str) -> None:
    stand = Stand()
    headers = {**stand.headers(), "idempotency-key": key}
    before = stand.stored()

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    response = stand.client.post("/v1/endpoints", json=BODY, headers=raw)

    assert_problem(response, 422, "invalid", "Idempotency-Key")
    assert stand.stored() == before


def test_an_idempotency_key_works_over_http() -> None:
    stand = Stand()
    headers = stand.headers(**{"idempotency-key": "k1"})
    first = stand.client.post("/v1/endpoints", json=BODY, headers=headers)

    again = stand.client.post("/v1/endpoints", json=BODY, headers=headers)
    other = stand.client.post("/v1/endpoints", json={**BODY, "name": "other"}, headers=headers)

    assert again.json() == first.json()
    assert_problem(other, 422, "idempotency_key_reused")


def test_a_taken_name_is_409_and_a_full_quota_429() -> None:
    stand = Stand(endpoints_max=1)
    headers = stand.headers()
    stand.client.post("/v1/endpoints", json=BODY, headers=headers)
    before = stand.stored()

    full = stand.client.post("/v1/endpoints", json={**BODY, "name": "other"}, headers=headers)
    taken = Stand(store=stand.store, endpoints_max=5)
    same = taken.client.post("/v1/endpoints", json=BODY, headers=headers)

    assert_problem(full, 429, "quota_exceeded")
    assert_problem(same, 409, "name_taken")
    assert stand.stored() == before


class AwayStore(MemoryStore):
    """A store whose database does not answer writes."""

    away: bool = False

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Begin a unit of work."""
        if self.away:
            raise Unavailable("the database does not answer", retry_after_s=2.5)
        with super().transaction() as unit:
            yield unit


def test_a_database_that_is_away_is_503_and_worth_another_try() -> None:
    store = AwayStore()
    stand = Stand(store=store)
    headers = stand.headers(**{"idempotency-key": "k1"})
    store.away = True

    response = stand.client.post("/v1/endpoints", json=BODY, headers=headers)

    assert_problem(response, 503, "unavailable")
    assert response.headers["retry-after"] == "3"
    assert response.json()["retryable"] is True
    store.away = False
    assert stand.client.post("/v1/endpoints", json=BODY, headers=headers).status_code == 202


class BrokenStore(MemoryStore):
    """A store with a bug."""

    def page(self, *_args: object, **_more: object) -> Any:
        """Never answers."""
        raise ZeroDivisionError(CANARY)


def test_a_bug_of_ours_is_a_500_that_tells_nothing() -> None:
    stand = Stand(store=BrokenStore())

    response = stand.client.get("/v1/endpoints", headers=stand.headers())

    assert_problem(response, 500, "internal")


def test_the_clients_request_id_comes_back_and_a_bad_one_is_replaced() -> None:
    stand = Stand()

    assert stand.client.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for bad in ("", "a b", "x" * 129, '"><script>'):
        given = stand.client.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"]
        assert re.fullmatch(r"req-[0-9a-f]{16}", given)


@pytest.mark.parametrize("sent", ["", "00-0-0-00", f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01"])
def test_a_trace_is_made_when_none_that_is_good_was_sent(sent: str) -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", traced(sent))
    assert sent[3:35] not in traced(sent) or not sent


def test_the_clients_trace_travels_through_the_bus() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    assert traced(f"00-{trace}-00f067aa0ba902b7-01").split("-")[1] == trace


def traced(sent: str) -> str:
    """The trace of the event that a create with this ``traceparent`` tells."""
    stand = Stand()
    headers = stand.headers(**({"traceparent": sent} if sent else {}))
    assert stand.client.post("/v1/endpoints", json=BODY, headers=headers).status_code == 202
    message = [each for each in stand.store.outbox.values() if each.headers.get("ce-type") == "endpoint.requested.v1"]
    return from_wire(message[0].headers, message[0].body).traceparent


def test_two_keys_in_one_request_are_refused() -> None:
    stand = Stand()
    key = f"Bearer {stand.a_key()}"

    response = stand.client.get("/v1/keys", headers=[("authorization", key), ("authorization", key)])

    assert_problem(response, 400, "malformed_request")


def test_headers_without_end_are_refused() -> None:
    stand = Stand()

    many = stand.client.get("/healthz", headers=[(f"x-{n}", "1") for n in range(80)])
    long = stand.client.get("/healthz", headers={"x-long": "x" * 20_000})

    assert_problem(many, 431, "headers_too_large")
    assert_problem(long, 431, "headers_too_large")


def test_another_tenant_gets_the_404_of_a_random_id_for_everything() -> None:
    stand = Stand()
    mine, theirs = stand.headers(), stand.headers("spy") | {"x-request-id": "r"}
    created = stand.client.post("/v1/endpoints", json=BODY, headers=mine).json()
    key = stand.client.post("/v1/keys", json={"name": "ci", "scopes": ["read"]}, headers=mine).json()
    before = stand.stored()

    for method, path, real, random in (
        ("GET", "/v1/endpoints/", created["endpoint_id"], "ep-aaaaaaaaaa"),
        ("GET", "/v1/endpoints/", "chat", "chat-that-never-was"),
        ("DELETE", "/v1/endpoints/", created["endpoint_id"], "ep-aaaaaaaaaa"),
        ("DELETE", "/v1/endpoints/", "chat", "chat-that-never-was"),
        ("GET", "/v1/operations/", created["id"], "op-aaaaaaaaaa-1"),
        ("DELETE", "/v1/keys/", key["id"], "aaaaaaaaaa"),
    ):
        answers = [stand.client.request(method, path + ref, headers=theirs) for ref in (real, random)]
        assert answers[0].status_code == 404
        assert answers[0].content == answers[1].content
        assert {**answers[0].headers} == {**answers[1].headers}

    assert stand.client.get("/v1/endpoints", headers=theirs).json()["items"] == []
    assert [each["name"] for each in stand.client.get("/v1/keys", headers=theirs).json()["items"]] == ["first"]
    assert stand.stored() == before


def test_health_needs_no_key_and_the_contract_is_served() -> None:
    stand = Stand()

    assert stand.client.get("/healthz").json() == {"status": "ok"}
    assert "/v1/endpoints/{ref}" in stand.client.get("/openapi.json").json()["paths"]
    assert stand.clock.now_ms() == NOW


def test_a_method_that_a_path_lacks_is_refused_with_all_that_it_has() -> None:
    stand = Stand()

    for path, methods in (
        ("/v1/endpoints", "GET, HEAD, POST"),
        ("/v1/endpoints/chat", "DELETE, GET, HEAD, PATCH"),
        ("/v1/endpoints/chat/pause", "POST"),
        ("/v1/keys/abc/rotate", "POST"),
        ("/healthz", "GET, HEAD"),
    ):
        refused = stand.client.request("OPTIONS", path, headers=stand.headers())
        assert_problem(refused, 405, "method_not_allowed")
        assert refused.headers.get_list("allow") == [methods]


@pytest.mark.parametrize("path", ["/healthz", "/v1/endpoints", "/v1/endpoints/chat", "/v1/endpoints/nobody"])
def test_head_is_get_without_the_body(path: str) -> None:
    stand = Stand()
    headers = stand.headers(**{"x-request-id": "r"})
    stand.client.post("/v1/endpoints", json=BODY, headers=headers)

    got, head = (stand.client.request(method, path, headers=headers) for method in ("GET", "HEAD"))

    assert (head.status_code, dict(head.headers), head.content) == (got.status_code, dict(got.headers), b"")


def test_head_of_a_watch_ends() -> None:
    stand = Stand()

    head = stand.client.head("/v1/watch", headers=stand.headers())

    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "application/xml;q=0.9", "nonsense"])
def test_the_answer_is_json_whatever_is_accepted(accept: str) -> None:
    stand = Stand()

    given = stand.client.get("/v1/endpoints", headers=stand.headers(accept=accept))

    assert (given.status_code, given.headers["content-type"]) == (200, "application/json")


def test_a_change_says_the_etag_that_it_made() -> None:
    stand = Stand()
    headers = stand.headers()

    made = stand.client.post("/v1/endpoints", json=BODY, headers=headers)
    scaled = stand.client.post("/v1/endpoints/chat/scale", json={"scaling": {"max": 2}}, headers=headers)

    assert (made.headers["etag"], scaled.headers["etag"]) == ('"1"', '"2"')
    assert stand.client.get("/v1/endpoints/chat", headers=headers).headers["etag"] == '"2"'
    late = {**headers, "if-match": made.headers["etag"]}
    assert_problem(stand.client.delete("/v1/endpoints/chat", headers=late), 412, "precondition_failed")
    assert stand.client.delete("/v1/endpoints/chat", headers={**headers, "if-match": '"2"'}).status_code == 202
