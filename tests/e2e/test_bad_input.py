"""What is wrong with a request is said so that a stranger can put it right, and nothing comes of the request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from libs.common import keys
from libs.common.ids import SystemEntropy
from tests.e2e.conftest import SERVED
from tests.e2e.local_profile import Profile
from tests.support.web import NO_TLS

pytestmark = pytest.mark.xdist_group("profile")

SECRET: Final = "hunter2-should-never-come-back"
SPEC: Final = {"model": "millrace/ngram-1", "tier": "l40s-dedicated", "region": "eu-1"}
CHAT: Final = {"model": SERVED, "messages": [{"role": "user", "content": SECRET}]}
API_BODY_BYTES_MAX: Final = 64 * 1024
ROUTER_BODY_BYTES_MAX: Final = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wrong:
    """A request with something wrong in it, and the answer that it should get."""

    content: bytes | str | dict[str, Any]
    status: int
    code: str | None
    says: str  # Part of the message: what is wrong, or what to do.
    field: str | None = None
    kind: str = "application/json"

    def send(self, url: str, key: str) -> httpx.Response:
        """Send it."""
        content = json.dumps(self.content) if isinstance(self.content, dict) else self.content
        return httpx.post(url, content=content, headers={**bearer(key), "content-type": self.kind}, verify=NO_TLS)


def create(name: object = "half-created", **spec: object) -> dict[str, Any]:
    """A create that would be good, but for what is given."""
    return {"name": name, "spec": {**SPEC, **spec}}


TO_CREATE: Final = {
    "unknown model": Wrong(create(model=SECRET), 422, "unknown_model", "there are: millrace/ngram-1", "spec.model"),
    "unknown tier": Wrong(create(tier=SECRET), 422, "unknown_tier", "l40s-dedicated", "spec.tier"),
    "unknown region": Wrong(create(region=SECRET), 422, "unknown_region", "eu-1", "spec.region"),
    "another's host name": Wrong(
        create(hostname="api.other.example"), 422, "hostname_not_yours", "POST /v1/domains", "spec.hostname"
    ),
    "malformed JSON": Wrong('{"name": "' + SECRET, 400, "malformed_json", "not JSON"),
    "no JSON at all": Wrong(SECRET, 400, "malformed_json", "not JSON"),
    "bytes that are no text": Wrong(b'{"name": "\xff\xfe"}', 400, "malformed_request", "UTF-8"),
    "a list": Wrong(json.dumps([create()]), 422, "invalid", "wrong fields"),
    "a number as name": Wrong(create(name=7), 422, "invalid", "name", "name"),
    "a number in quotes": Wrong(create(scaling={"min": "1"}), 422, "invalid", "spec.scaling.min", "spec.scaling.min"),
    "fewer than none": Wrong(create(scaling={"min": -1}), 422, "invalid", "scaling", None),
    "max below min": Wrong(create(scaling={"min": 3, "max": 1}), 422, "invalid", "scaling", None),
    "an unknown field": Wrong({**create(), "nmae": SECRET}, 422, "invalid", "nmae", "nmae"),
    "no spec": Wrong({"name": "half-created"}, 422, "invalid", "spec", "spec"),
    "an impossible name": Wrong(create(name="Half_Created"), 422, "invalid", "a-z, 0-9", "name"),
    "a name already taken": Wrong(create(name=SERVED), 409, "name_taken", "choose another"),
    "a body over the limit": Wrong(" " * API_BODY_BYTES_MAX + "{}", 413, "body_too_large", "65536 bytes"),
    "a form": Wrong("name=x", 415, "unsupported_media_type", "application/json", kind="text/plain"),
}


@pytest.fixture
def untouched(profile: Profile, endpoints: dict[str, str]) -> Iterator[None]:
    """Afterwards everything that there is, is what was there before."""
    assert endpoints
    before = everything(profile)
    yield
    assert everything(profile) == before


def everything(profile: Profile) -> dict[str, Any]:
    """What tenants see and what the cloud holds, without what changes by itself."""
    listed = profile.client.api.transport.call("GET", "/v1/endpoints")
    inventory = profile.inventory()
    return {
        "endpoints": [(each["id"], each["status"]["generation"]) for each in listed["items"]],
        "keys": [each["id"] for each in profile.client.api.transport.call("GET", "/v1/keys")["items"]],
        "models": profile.client.models(),
        **{kind: inventory[kind] for kind in ("projects", "clusters", "claims", "nodes", "objects", "processes")},
    }


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def problem(answer: httpx.Response, *, status: int, code: str | None) -> dict[str, Any]:
    """A problem as RFC 9457 has it, with all that we promise to say and nothing that was sent."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert said["status"] == status
    assert said["code"] == code
    assert said["type"] == f"urn:millrace:problem:{said['code'].replace('_', '-')}"
    assert said["title"]
    assert len(said["detail"]) > 10
    assert said["retryable"] is False
    assert said["request_id"] == answer.headers["x-request-id"] != ""
    assert SECRET not in answer.text
    return said


def openai_error(answer: httpx.Response, *, status: int, code: str | None) -> dict[str, Any]:
    """An error in the one shape that OpenAI's clients read."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    (said,) = answer.json().values()
    assert set(said) == {"message", "type", "param", "code"}
    assert said["code"] == code
    assert said["type"] == "invalid_request_error"
    assert len(said["message"]) > 10
    assert SECRET not in answer.text
    error: dict[str, Any] = said
    return error


@pytest.mark.usefixtures("untouched")
def test_a_wrong_create_is_refused_with_what_to_do_and_nothing_is_half_created(profile: Profile) -> None:
    url = f"{profile.credentials.api_url}/v1/endpoints"
    for what, wrong in TO_CREATE.items():
        answer = wrong.send(url, profile.credentials.key)

        said = problem(answer, status=wrong.status, code=wrong.code)
        assert wrong.says in said["detail"], what
        if wrong.field is not None:
            assert wrong.field in [each["field"] for each in said["errors"]], what


@pytest.mark.usefixtures("untouched")
def test_without_a_good_key_nothing_is_said_and_nothing_done(profile: Profile) -> None:
    unknown = keys.mint(SystemEntropy()).plaintext
    strangers: list[dict[str, str]] = [{}, bearer(unknown), bearer(SECRET), {"authorization": f"Basic {SECRET}"}]
    paths = [
        ("POST", "/v1/endpoints"),
        ("GET", "/v1/endpoints"),
        ("DELETE", f"/v1/endpoints/{SERVED}"),
        ("POST", "/v1/keys"),
        ("GET", "/v1/tiers"),
    ]
    for headers in strangers:
        said = [
            problem(
                httpx.request(
                    method, f"{profile.credentials.api_url}{path}", json=create(), headers=headers, verify=NO_TLS
                ),
                status=401,
                code="unauthorized",
            )["detail"]
            for method, path in paths
        ]
        assert len(set(said)) == 1  # The same, whatever was wrong with it.
        assert "Bearer" in said[0]


def test_a_key_without_the_scope_is_told_which_one_it_lacks(profile: Profile) -> None:
    made = profile.client.api.transport.call("POST", "/v1/keys", body={"name": "asks-only", "scopes": ["inference"]})
    url = f"{profile.credentials.api_url}/v1/endpoints"

    answer = httpx.post(url, json=create(), headers=bearer(made["key"]), verify=NO_TLS)

    assert "manage" in problem(answer, status=403, code="missing_scope")["detail"]
    assert "half-created" not in [
        each["name"] for each in profile.client.api.transport.call("GET", "/v1/endpoints")["items"]
    ]


def test_other_paths_and_methods_are_problems_too(profile: Profile, served: str) -> None:
    api, key = profile.credentials.api_url, bearer(profile.credentials.key)

    problem(httpx.get(f"{api}/v2/{SECRET}", headers=key, verify=NO_TLS), status=404, code="no_such_route")
    problem(httpx.get(f"{api}/v1/endpoints/{SECRET}", headers=key, verify=NO_TLS), status=404, code="not_found")
    problem(httpx.get(f"{api}/v1/operations/{SECRET}", headers=key, verify=NO_TLS), status=404, code="not_found")
    problem(httpx.delete(f"{api}/v1/keys/{SECRET}", headers=key, verify=NO_TLS), status=404, code="not_found")
    wrong_method = httpx.put(f"{api}/v1/endpoints/{served}", headers=key, json={}, verify=NO_TLS)
    problem(wrong_method, status=405, code="method_not_allowed")
    assert "GET" in wrong_method.headers["allow"]


TO_ASK: Final = {
    "unknown model": Wrong({**CHAT, "model": "nobodys"}, 404, "model_not_found", "does not exist", "model"),
    "malformed JSON": Wrong('{"model": "' + SECRET, 400, None, "not valid JSON"),
    "no JSON at all": Wrong(SECRET, 400, None, "not valid JSON"),
    "an empty body": Wrong("", 400, None, "not valid JSON"),
    "a list": Wrong(json.dumps([CHAT]), 400, None, "Expected"),
    "a number as model": Wrong({**CHAT, "model": 7}, 400, None, "Expected", "model"),
    "words as a number": Wrong({**CHAT, "max_tokens": SECRET}, 400, None, "Expected", "max_tokens"),
    "no tokens": Wrong({**CHAT, "max_tokens": 0}, 400, None, "max_tokens", "max_tokens"),
    "no messages": Wrong({"model": SERVED}, 400, None, "messages", "messages"),
    "no model": Wrong({"messages": CHAT["messages"]}, 400, None, "model", "model"),
    "an unknown field": Wrong({**CHAT, "max_tokns": 5}, 400, None, "max_tokns", "max_tokns"),
    "a picture": Wrong(
        {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": SECRET}}]}]},
        400,
        None,
        "text",
    ),
    "a body over the limit": Wrong(
        b'{"model": "' + b"x" * ROUTER_BODY_BYTES_MAX + b'"}', 413, "request_too_large", "larger than"
    ),
}


@pytest.mark.usefixtures("untouched")
def test_a_wrong_question_is_refused_as_openai_does(profile: Profile) -> None:
    url = f"{profile.credentials.router_url}/chat/completions"
    for what, wrong in TO_ASK.items():
        answer = wrong.send(url, profile.credentials.key)

        said = openai_error(answer, status=wrong.status, code=wrong.code)
        assert wrong.says in said["message"], what
        if wrong.field is not None:
            assert said["param"] == wrong.field, what


def test_no_key_an_unknown_one_and_an_unknown_path_are_told_so_by_the_router(profile: Profile, served: str) -> None:
    router = profile.credentials.router_url
    unknown = keys.mint(SystemEntropy()).plaintext
    for headers in ({}, bearer(unknown), bearer(SECRET)):
        for answer in (
            httpx.post(f"{router}/chat/completions", json={**CHAT, "model": served}, headers=headers, verify=NO_TLS),
            httpx.get(f"{router}/models", headers=headers, verify=NO_TLS),
        ):
            openai_error(answer, status=401, code="invalid_api_key")

    key = bearer(profile.credentials.key)
    openai_error(httpx.post(f"{router}/edits", json={}, headers=key, verify=NO_TLS), status=404, code=None)
    openai_error(
        httpx.get(f"{router}/chat/completions", headers=key, verify=NO_TLS), status=405, code="method_not_supported"
    )


def test_a_question_about_usage_is_refused_as_clearly(profile: Profile) -> None:
    usage, key = profile.credentials.usage_url, bearer(profile.credentials.key)

    assert httpx.get(f"{usage}/v1/usage", verify=NO_TLS).status_code == 401
    assert httpx.get(f"{usage}/v1/usage", headers=bearer(SECRET), verify=NO_TLS).json()["code"] == "unauthorized"
    wrong_time = httpx.get(f"{usage}/v1/usage", params={"from": SECRET}, headers=key, verify=NO_TLS)
    assert wrong_time.status_code == 422
    assert "RFC 3339" in wrong_time.json()["detail"]
    no_endpoint = httpx.get(f"{usage}/v1/ledger", headers=key, verify=NO_TLS)
    assert no_endpoint.status_code == 422
    assert "endpoint" in no_endpoint.json()["detail"]
    assert SECRET not in wrong_time.text
    nobodys = httpx.get(f"{usage}/v1/usage", params={"endpoint": "ep-aaaaaaaaaa"}, headers=key, verify=NO_TLS)
    assert nobodys.json()["items"] == []
