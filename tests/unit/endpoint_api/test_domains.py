"""Domains that are proved, and the host names below them: whose they are, one endpoint's at a time, and given back."""

from __future__ import annotations

from typing import Any

import pytest
from httpx2 import Response

from libs.common.events.route import RoutePublished, RouteWaiting
from libs.common.events.runtime import RuntimeFailed
from services.endpoint_api.core.domains import above, proof_of, record_of
from tests.unit.endpoint_api.given import BODY, PROGRESS, TEARDOWN, Stand
from tests.unit.endpoint_api.test_http import assert_problem

DOMAIN, HOST = "acme.example", "api.acme.example"


def prove(stand: Stand, domain: str = DOMAIN, tenant: str = "acme") -> dict[str, str]:
    """The tenant writes the proof into its zone and asks; the headers of a key of it."""
    stand.zones.said[record_of(domain)] = ("v=spf1 -all", proof_of(domain, tenant))
    headers = stand.headers(tenant)
    response = stand.client.post("/v1/domains", json={"domain": domain}, headers=headers)
    assert response.status_code == 200, response.text
    return headers


def create(stand: Stand, headers: dict[str, str], name: str = "chat", hostname: str = HOST) -> Response:
    body = {"name": name, "spec": {**BODY["spec"], "hostname": hostname}}
    return stand.client.post("/v1/endpoints", json=body, headers=headers)


def readdress(stand: Stand, headers: dict[str, str], hostname: str | None, **query: Any) -> Response:
    body = {"spec": {"hostname": hostname}}
    return stand.client.patch("/v1/endpoints/chat", json=body, headers=headers, params=query)


def test_what_is_not_proved_is_refused_and_the_refusal_says_what_proves_it() -> None:
    stand = Stand()
    headers = stand.headers()
    stand.zones.said[record_of(DOMAIN)] = (proof_of(DOMAIN, "other"),)
    before = stand.stored()

    response = stand.client.post("/v1/domains", json={"domain": DOMAIN}, headers=headers)

    assert_problem(response, 422, "domain_not_verified", "domain")
    assert proof_of(DOMAIN, "acme") in response.text
    shown = stand.client.get(f"/v1/domains/{DOMAIN}", headers=headers).json()
    assert (shown["verified"], shown["record_text"]) == (False, proof_of(DOMAIN, "acme"))
    assert shown["record_name"] == "_millrace.acme.example"
    assert stand.stored() == before


def test_a_domain_is_one_tenants_and_nobody_else_sees_it() -> None:
    stand = Stand()
    mine = prove(stand)
    stand.zones.said[record_of(DOMAIN)] = (proof_of(DOMAIN, "acme"), proof_of(DOMAIN, "other"))
    theirs = stand.headers("other")

    assert_problem(
        stand.client.post("/v1/domains", json={"domain": DOMAIN}, headers=theirs), 422, "domain_taken", "domain"
    )
    assert stand.client.get("/v1/domains", headers=theirs).json()["items"] == []
    assert_problem(stand.client.delete(f"/v1/domains/{DOMAIN}", headers=theirs), 404, "not_found")
    (found,) = stand.client.get("/v1/domains", headers=mine).json()["items"]
    assert (found["domain"], found["verified"]) == (DOMAIN, True)


def test_when_dns_does_not_answer_it_is_asked_again_later() -> None:
    stand = Stand()
    stand.zones.is_away = True

    response = stand.client.post("/v1/domains", json={"domain": DOMAIN}, headers=stand.headers())

    assert_problem(response, 503, "unavailable")
    assert response.json()["retryable"]


@pytest.mark.parametrize("domain", ["", "acme", "Acme.example", "acme.example.", "127.0.0.1", "a b.example", "*.a.io"])
def test_what_is_no_domain_is_refused(domain: str) -> None:
    stand = Stand()

    assert_problem(
        stand.client.post("/v1/domains", json={"domain": domain}, headers=stand.headers()), 422, "invalid", "domain"
    )


@pytest.mark.parametrize(
    ("hostname", "code"),
    [
        ("api.other.example", "hostname_not_yours"),  # Another tenant's.
        ("eu.api.acme.example", "hostname_not_yours"),  # Below a domain of ours, and nearer to one of another's.
        ("api.nobody.example", "hostname_not_yours"),
        ("acme.example.evil.example", "hostname_not_yours"),
        ("xacme.example", "hostname_not_yours"),
        ("API.acme.example", "invalid"),
        ("10.0.0.1", "invalid"),
    ],
)
def test_a_host_name_that_is_not_the_tenants_is_refused_with_its_field_before_anything_changes(
    hostname: str, code: str
) -> None:
    stand = Stand()
    headers = prove(stand)
    prove(stand, "other.example", "other")
    prove(stand, "api.acme.example", "other")
    assert create(stand, headers, hostname="").status_code == 202
    before = stand.stored()

    assert_problem(create(stand, headers, "more", hostname), 422, code, "spec.hostname")
    assert_problem(readdress(stand, headers, hostname), 422, code, "spec.hostname")
    assert stand.stored() == before


def test_the_domain_itself_and_all_below_it_may_be_host_names() -> None:
    stand = Stand()
    headers = prove(stand)

    for count, hostname in enumerate((DOMAIN, HOST, "a.b.acme.example")):
        assert create(stand, headers, f"chat-{count}", hostname).status_code == 202
    assert list(above("a.b.acme.example")) == ["a.b.acme.example", "b.acme.example", "acme.example"]


def test_a_host_name_is_one_endpoints_until_that_is_deleted_or_called_otherwise() -> None:
    stand = Stand()
    headers = prove(stand)
    first = create(stand, headers).json()["endpoint_id"]

    assert_problem(create(stand, headers, "more"), 422, "hostname_taken", "spec.hostname")
    plan = stand.client.post(
        "/v1/endpoints?dry_run=true", json={"name": "more", "spec": {**BODY["spec"], "hostname": HOST}}, headers=headers
    )
    assert_problem(plan, 422, "hostname_taken", "spec.hostname")

    stand.hear(first, PROGRESS)
    assert readdress(stand, headers, "new.acme.example").status_code == 202
    assert_problem(create(stand, headers, "more"), 422, "hostname_taken", "spec.hostname")  # It may go back to it.
    stand.hear(first, (RoutePublished(url="https://new.acme.example/v1"),), generation=2, first=100)
    second = create(stand, headers, "more")
    assert second.status_code == 202

    stand.client.delete("/v1/endpoints/more", headers=headers)
    assert_problem(create(stand, headers, "third"), 422, "hostname_taken", "spec.hostname")
    stand.hear(second.json()["endpoint_id"], TEARDOWN, generation=2)
    assert create(stand, headers, "third").status_code == 202


def test_a_domain_is_given_up_when_nothing_is_called_by_it_and_may_be_anothers_then() -> None:
    stand = Stand()
    headers = prove(stand)
    made = create(stand, headers).json()["endpoint_id"]
    assert_problem(stand.client.delete(f"/v1/domains/{DOMAIN}", headers=headers), 409, "domain_in_use")

    stand.client.delete("/v1/endpoints/chat", headers=headers)
    stand.hear(made, TEARDOWN, generation=2)
    assert stand.client.delete(f"/v1/domains/{DOMAIN}", headers=headers).status_code == 204

    theirs = prove(stand, tenant="other")
    assert_problem(create(stand, headers, "again"), 422, "hostname_not_yours", "spec.hostname")
    assert create(stand, theirs).status_code == 202
    assert stand.client.get("/v1/domains", headers=headers).json()["items"] == []


def test_another_host_name_is_an_update_that_is_ready_when_it_was_seen_from_outside() -> None:
    stand = Stand()
    headers = prove(stand)
    made = create(stand, headers, hostname="").json()["endpoint_id"]
    stand.hear(made, PROGRESS)
    plan = readdress(stand, headers, HOST, dry_run="true").json()

    asked = readdress(stand, headers, HOST).json()
    waits = RouteWaiting(reason="DnsNotReady", message="https://api.acme.example/v1/models/chat: no such name")
    stand.hear(made, (waits,), generation=2, first=100)
    updating = stand.client.get("/v1/endpoints/chat", headers=headers).json()["status"]
    stand.hear(made, (RoutePublished(url="https://api.acme.example/v1"),), generation=2, first=101)
    ready = stand.client.get("/v1/endpoints/chat", headers=headers).json()["status"]

    assert (plan["change"], plan["stages"]) == ("readdress", ["updating", "ready"])
    assert (updating["stage"], updating["reason"]) == ("updating", "DnsNotReady")
    assert (ready["stage"], ready["url"]) == ("ready", "https://api.acme.example/v1")
    operation = stand.client.get(f"/v1/operations/{asked['id']}", headers=headers).json()
    assert operation["status"] == "succeeded"


def test_what_goes_back_has_its_old_host_name_and_nothing_is_kept_of_the_other() -> None:
    stand = Stand()
    headers = prove(stand)
    made = create(stand, headers).json()["endpoint_id"]
    stand.hear(made, PROGRESS)
    readdress(stand, headers, "new.acme.example")
    stand.hear(made, (RuntimeFailed(reason="CrashLoopBackOff", message="it exits"),), generation=2, first=100)

    assert stand.client.get("/v1/endpoints/chat", headers=headers).json()["spec"]["hostname"] == HOST
    stand.hear(made, PROGRESS, generation=3, first=200)
    assert {name: count for name, count in stand.store.counters.items() if name.startswith("host")} == {
        f"hostname/{HOST}": 1, "hostname/new.acme.example": 0, f"hostnames/{DOMAIN}": 1,
    }  # fmt: skip
