"""Tenants and projects: made by operators and owners, limited, suspended, taken away; routers hear their limits."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from libs.common.bus.streams import QUOTAS
from libs.common.errors import Conflict, NotFound, QuotaExceeded
from libs.common.events.tenant import NO_LIMITS, Quota
from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.identity import as_operator
from services.endpoint_api.core.refusal import FieldRefused, Forbidden
from tests.unit.endpoint_api.given import BODY, SPEC, Stand, a_caller

ROOT: Final = as_operator("root", "", None)
IN_ACME: Final = Caller(TenantId("acme"), ProjectId(""), ROOT.actor, ROOT.scopes, ROOT.tenant_scopes)


def with_acme(quota: Quota = NO_LIMITS, **more: Any) -> Stand:
    """A tenant acme with the project main."""
    stand = Stand(**more)
    stand.api.tenants.create(Ask(ROOT, "make"), "acme", display_name="Acme", tiers=[], quota=quota, projects=["main"])
    return stand


def told_to_routers(stand: Stand) -> dict[str, Any]:
    """What the bucket of quotas holds once all messages are sent, by key."""
    held: dict[str, Any] = {}
    for out in stand.store.pending(1000):
        if QUOTAS in out.message.subject:
            key = out.message.subject.partition(f"{QUOTAS}.")[2]
            held[key] = json.loads(out.message.body) if out.message.body else None
    return held


def test_a_tenant_is_made_once_and_a_repeat_is_the_same() -> None:
    stand = with_acme()

    again = stand.api.tenants.create(
        Ask(ROOT, "make"), "acme", display_name="Acme", tiers=[], quota=NO_LIMITS, projects=["main"]
    )

    assert [each.id for each in again.projects] == ["main"]
    with pytest.raises(Conflict) as refusal:
        stand.api.tenants.create(Ask(ROOT, "other"), "acme", display_name="A", tiers=[], quota=NO_LIMITS, projects=[])
    assert refusal.value.code == "name_taken"


def test_routers_hear_the_limits_of_tenants_and_projects() -> None:
    stand = with_acme(Quota(requests_per_minute=100, tokens_per_minute=5000, concurrency=50))
    narrow = Quota(requests_per_minute=10, concurrency=5)
    stand.api.tenants.put_project(Ask(IN_ACME, "r1"), "main", quota=narrow, is_new=False)

    held = told_to_routers(stand)

    assert (held["acme"]["requests_per_minute"], held["acme"]["tokens_per_minute"]) == (100, 5000)
    assert held["acme.main"]["requests_per_minute"] == 10
    assert (held["acme"]["concurrency"], held["acme.main"]["concurrency"]) == (50, 5)


def test_a_suspended_tenants_traffic_is_refused_by_routers_and_its_key_by_us() -> None:
    stand = with_acme()
    headers = stand.headers()

    stand.api.tenants.change(Ask(ROOT, "r1"), "acme", suspended=True)

    answer = stand.client.get("/v1/endpoints", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")
    assert told_to_routers(stand)["acme"]["requests_per_minute"] == 0

    stand.api.tenants.change(Ask(ROOT, "r2"), "acme", suspended=False)

    assert stand.client.get("/v1/endpoints", headers=headers).status_code == 200
    assert told_to_routers(stand)["acme"]["requests_per_minute"] is None


def test_a_key_of_a_tenant_that_nobody_made_is_refused() -> None:
    stand = Stand()
    headers = stand.headers()
    del stand.store.records["tenant", "acme"]

    answer = stand.client.get("/v1/endpoints", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_what_is_left_out_of_a_change_stays() -> None:
    stand = with_acme(Quota(endpoints=3))

    changed = stand.api.tenants.change(Ask(ROOT, "r1"), "acme", tiers=["h100-dedicated"])

    assert (changed.tiers, changed.quota.endpoints, changed.display_name) == (("h100-dedicated",), 3, "Acme")
    with pytest.raises(FieldRefused, match="l40s-dedicated"):
        stand.api.tenants.change(Ask(ROOT, "r2"), "acme", tiers=["nothing"])


def test_an_operators_quota_stands_in_place_of_the_installs() -> None:
    stand = with_acme(Quota(endpoints=2), endpoints_max=1)
    for number in range(2):
        stand.api.endpoints.create(Ask(a_caller(), f"r{number}"), name=f"n{number}", spec=SPEC)

    with pytest.raises(QuotaExceeded):
        stand.api.endpoints.create(Ask(a_caller(), "r3"), name="n3", spec=SPEC)


def test_a_projects_quota_holds_besides_the_tenants_and_never_above_it() -> None:
    stand = with_acme(Quota(endpoints=5))
    stand.api.tenants.put_project(Ask(IN_ACME, "r1"), "main", quota=Quota(endpoints=1), is_new=False)
    stand.api.endpoints.create(Ask(a_caller(), "r2"), name="one", spec=SPEC)

    with pytest.raises(QuotaExceeded, match="the project main may have 1 endpoints and holds 1"):
        stand.api.endpoints.create(Ask(a_caller(), "r3"), name="two", spec=SPEC)
    with pytest.raises(FieldRefused) as refusal:
        stand.api.tenants.put_project(Ask(IN_ACME, "r4"), "main", quota=Quota(endpoints=6), is_new=False)
    assert (refusal.value.field, refusal.value.code) == ("quota.endpoints", "above_tenant_quota")


def test_a_project_with_endpoints_is_not_taken_away() -> None:
    stand = with_acme()
    stand.api.endpoints.create(Ask(a_caller(), "r1"), name="one", spec=SPEC)

    with pytest.raises(Conflict) as refusal:
        stand.api.tenants.remove_project(Ask(IN_ACME, "r2"), "main")

    assert refusal.value.code == "project_not_empty"


def test_in_a_project_that_was_taken_away_nothing_is_made_even_by_who_was_admitted_before() -> None:
    stand = with_acme()
    headers = stand.headers()

    stand.api.tenants.remove_project(Ask(IN_ACME, "r1"), "main")

    assert stand.client.post("/v1/endpoints", json=BODY, headers=headers).status_code == 401
    with pytest.raises(QuotaExceeded):
        stand.api.endpoints.create(Ask(a_caller(), "r2"), name="one", spec=SPEC)
    assert told_to_routers(stand)["acme.main"] is None


def test_a_project_made_again_is_empty_and_open() -> None:
    stand = with_acme()
    stand.api.tenants.remove_project(Ask(IN_ACME, "r1"), "main")

    stand.api.tenants.put_project(Ask(IN_ACME, "r2"), "main", quota=NO_LIMITS, is_new=True)
    stand.api.endpoints.create(Ask(a_caller(), "r3"), name="one", spec=SPEC)

    assert stand.store.counter("endpoints/acme/main") == 1


def test_a_project_that_is_not_there_is_neither_changed_nor_taken_away() -> None:
    stand = with_acme()

    with pytest.raises(NotFound):
        stand.api.tenants.put_project(Ask(IN_ACME, "r1"), "other", quota=NO_LIMITS, is_new=False)
    with pytest.raises(NotFound):
        stand.api.tenants.remove_project(Ask(IN_ACME, "r2"), "other")


def test_use_is_shown_beside_each_limit() -> None:
    stand = with_acme(Quota(endpoints=5, gpus={"metal3.gpu-h100": 8}, requests_per_minute=60))
    stand.api.endpoints.create(Ask(a_caller(), "r1"), name="one", spec=SPEC)

    rows = {
        (each.level, each.resource, each.node_class): (each.limit, each.used)
        for each in stand.api.tenants.quotas(a_caller())
    }

    assert rows["tenant", "endpoints", ""] == (5, 1)
    assert rows["project", "endpoints", ""] == (None, 1)
    assert rows["tenant", "gpus", "metal3.gpu-h100"] == (8, 0)
    assert rows["tenant", "gpus", "terraform.gpu-l40s"] == (None, 1)
    assert rows["tenant", "requests_per_minute", ""] == (60, None)


def test_tenants_are_listed_a_page_at_a_time() -> None:
    stand = with_acme()
    stand.api.tenants.adopt("initech", "main")

    first = stand.api.tenants.list(ROOT, limit=1)
    second = stand.api.tenants.list(ROOT, limit=1, cursor=first.next_cursor or "")

    assert [each.id for each in (*first.items, *second.items)] == ["acme", "initech"]
    assert second.next_cursor is None


def test_adopting_is_safe_to_repeat_and_brings_no_project_back() -> None:
    stand = with_acme()
    stand.api.tenants.remove_project(Ask(IN_ACME, "r1"), "main")

    stand.api.tenants.adopt("acme", "main")
    stand.api.tenants.adopt("acme", "side")
    before = stand.stored()
    stand.api.tenants.adopt("acme", "side")

    assert stand.stored() == before
    assert [each.id for each in stand.api.tenants.get(ROOT, "acme").projects] == ["side"]


def test_a_tenants_own_people_make_no_tenants() -> None:
    with pytest.raises(Forbidden):
        Stand().api.tenants.create(
            Ask(a_caller(), "r"), "own", display_name="Own", tiers=[], quota=NO_LIMITS, projects=[]
        )
