"""Every change that somebody asked for can be read back by its tenant, and by nobody else."""

from __future__ import annotations

import pytest

from libs.common.audit import flaws
from libs.common.events.audit import AuditRecorded
from libs.common.events.envelope import from_wire
from libs.common.ids import ProjectId, TenantId
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.identity import as_operator
from services.endpoint_api.core.refusal import Forbidden
from tests.unit.endpoint_api.given import BODY, EVERYTHING, NOW, SPEC, Stand, a_caller


def test_each_change_is_one_row_that_says_who_asked() -> None:
    stand = Stand()
    made = stand.api.endpoints.create(Ask(a_caller(), "r1", "k1"), name="chat", spec=SPEC)
    stand.api.endpoints.create(Ask(a_caller(), "r2", "k1"), name="chat", spec=SPEC)
    stand.api.endpoints.delete(Ask(a_caller(), "r3"), "chat")

    rows = [each.row for each in stand.api.audit.list(a_caller()).items]

    assert [(each.deed.action, each.deed.target, each.deed.request_id) for each in rows] == [
        ("create_endpoint", made.endpoint_id, "r1"),
        ("delete_endpoint", made.endpoint_id, "r3"),
    ]
    assert {each.deed.actor for each in rows} == {"key:aaaaaaaaaa"}
    assert rows[1].deed.before_sha256 == rows[0].deed.after_sha256
    assert rows[0].deed.at_ms == NOW


def test_the_bus_is_told_what_the_audit_has() -> None:
    stand = Stand()
    stand.api.endpoints.create(Ask(a_caller(), "r1", "k1"), name="chat", spec=SPEC)
    stand.api.endpoints.delete(Ask(a_caller(), "r3"), "chat")

    rows = stand.store.deeds()
    envelopes = [from_wire(each.headers, each.body) for each in stand.store.outbox.values()]
    told = {each.data.seq: each.data.hash for each in envelopes if isinstance(each.data, AuditRecorded)}

    assert told == {each.seq: each.hash for each in rows}
    assert not list(flaws(rows, told))


def test_a_refused_change_leaves_no_row() -> None:
    stand = Stand(endpoints_max=0)

    answer = stand.client.post("/v1/endpoints", json=BODY, headers=stand.headers())

    assert answer.is_client_error
    assert [each.deed.action for each in stand.store.deeds()] == ["create_key", "create_tenant"]


def test_a_tenant_reads_its_own_rows_only() -> None:
    stand = Stand()
    stand.api.endpoints.create(Ask(a_caller(), "r1", "k1"), name="chat", spec=SPEC)
    stand.api.endpoints.create(Ask(a_caller(tenant="spy"), "r1", "k1"), name="chat", spec=SPEC)

    [line] = stand.api.audit.list(a_caller(tenant="spy")).items

    assert line.row.deed.tenant_id == "spy"
    assert line.number == 1  # Not 2: that would tell how much others do.
    with pytest.raises(Forbidden):
        stand.api.audit.list(a_caller(scopes=frozenset({"read"})))


def test_the_audit_is_read_a_page_at_a_time_over_http() -> None:
    stand = Stand()
    headers = stand.headers()
    for number in range(2):
        stand.api.endpoints.create(Ask(a_caller(), f"r{number}", f"k{number}"), name=f"n{number}", spec=SPEC)

    first = stand.client.get("/v1/audit", params={"limit": 2}, headers=headers).json()
    second = stand.client.get("/v1/audit", params={"limit": 2, "after": first["next_after"]}, headers=headers).json()

    assert [each["action"] for each in first["items"] + second["items"]] == ["create_key"] + ["create_endpoint"] * 2
    assert {each["project_id"] for each in first["items"]} == {"main"}
    assert second["next_after"] is None
    assert second["items"][0]["previous"] == first["items"][1]["hash"]
    assert stand.client.get("/v1/audit", params={"limit": 0}, headers=headers).status_code == 422


def test_a_projects_key_reads_its_projects_rows_who_has_a_role_in_the_tenant_all_of_them() -> None:
    stand = Stand()
    stand.a_key(project="main")
    other = stand.headers(project="other")
    owner = Caller(TenantId("acme"), ProjectId("main"), "user:corp:ada", EVERYTHING, EVERYTHING)
    in_one = Caller(TenantId("acme"), ProjectId("main"), "user:corp:bob", EVERYTHING, frozenset({"read"}))

    shown = stand.client.get("/v1/audit", headers=other).json()["items"]

    assert {each["project_id"] for each in shown} == {"other"}
    assert {each.row.deed.project_id for each in stand.api.audit.list(in_one).items} == {"main"}
    everything = [(each.row.deed.action, each.row.deed.project_id) for each in stand.api.audit.list(owner).items]
    made = [("create_key", "main"), ("create_tenant", ""), ("create_key", "other"), ("put_project", "")]
    assert everything == made


def test_an_operator_reads_the_tenant_it_names_or_everybody_by_the_numbers_of_the_whole() -> None:
    stand = Stand()
    stand.a_key("acme")
    stand.a_key("spy")
    of_one = as_operator("root", "spy", stand.tenancy.tenant("spy"))

    everybody = stand.api.audit.list(as_operator("root", "", None), limit=3)
    rest = stand.api.audit.list(as_operator("root", "", None), after=everybody.next_after or 0)

    assert [each.number for each in (*everybody.items, *rest.items)] == [1, 2, 3, 4]
    assert [each.number for each in stand.api.audit.list(of_one).items] == [1, 2]


def test_a_webhooks_digests_do_not_tell_where_among_the_events_of_all_it_begins() -> None:
    """A place among everybody's events could be guessed until the digest fits."""
    digests = []
    for others in (0, 3):
        stand = Stand()
        for number in range(others):
            ask = Ask(a_caller(tenant="globex"), f"o{number}", f"o{number}")
            stand.api.endpoints.create(ask, name=f"n{number}", spec=SPEC)
        stand.api.webhooks.create(Ask(a_caller(), "r1", "k1"), url="https://hook.example/", events=["*"])
        stand.api.webhooks.test(Ask(a_caller(), "r2", "k2"), stand.api.webhooks.list(a_caller())[0].id)
        lines = stand.api.audit.list(a_caller()).items[-2:]
        digests.append([(each.row.deed.before_sha256, each.row.deed.after_sha256) for each in lines])

    assert digests[0] == digests[1]
    assert digests[0][0][1] == digests[0][1][0]
