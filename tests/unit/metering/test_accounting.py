"""Statements and the reconciliation over HTTP: to whom they belong, as they were written, wrong where changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.common.units import DAY_MS
from services.metering.shell.closing import BOOKS, STATEMENT, Closing
from tests.unit.metering.test_routes import Api, api
from tests.unit.metering.world import T0, batch, released, usage

__all__ = ["api"]

DAY = "2027-01-15"


@pytest.fixture
def closed(api: Api) -> Api:
    """A day is closed; then a request of it comes late, and the next day is closed too."""
    world = api.world
    world.hear(released("n1", at_ms=world.clock.now_ms(), sequence=2))
    world.pass_time(20)
    world.clock.advance(2 * DAY_MS)
    closing = Closing(world.store, world.clock, late_ms=0)
    closing.close(DAY)
    world.hear(batch([usage("late")], boot_seq=3, at_ms=world.clock.now_ms()))
    world.pass_time(20)
    closing.close("2027-01-16")
    return api


async def test_a_statement_stays_and_what_came_late_names_the_line_that_it_corrects(closed: Api) -> None:
    first = (await closed.get(f"/v1/statements/{DAY}", closed.key())).json()
    second = (await closed.get("/v1/statements/2027-01-16", closed.key())).json()

    (requests,) = (each for each in first["lines"] if each["meter"] == "requests")
    (more,) = (each for each in second["lines"] if each["meter"] == "requests")
    assert (requests["quantity"], requests["corrects"]) == (5, "")
    assert (more["quantity"], more["corrects"]) == (1, requests["id"])
    assert (first["before"], second["before"]) == ("", first["digest"])


async def test_a_tenant_sees_its_own_statements_and_the_operator_all(closed: Api) -> None:
    own = (await closed.get("/v1/statements", closed.key())).json()
    fleet = (await closed.get("/v1/statements", closed.key("", ("operate",)))).json()
    others = await closed.get(f"/v1/statements/{DAY}", closed.key("nobody"))

    assert {each["tenant_id"] for each in own["items"]} == {"acme"}
    assert {each["tenant_id"] for each in fleet["items"]} == {"acme", "globex"}
    assert (others.status_code, others.json()["code"]) == (404, "not_found")


async def test_a_statement_that_somebody_changed_says_so(closed: Api) -> None:
    records = closed.world.store.records
    place = next(each for each in sorted(records) if each[0] == STATEMENT and each[1].startswith("acme/"))
    state = records[place].state.replace(b'"quantity":5', b'"quantity":4')
    records[place] = replace(records[place], state=state)

    listed = (await closed.get("/v1/statements", closed.key())).json()["items"]
    one = (await closed.get(f"/v1/statements/{DAY}", closed.key())).json()

    assert [each["is_as_stated"] for each in listed] == [False, True]
    assert one["is_as_stated"] is False
    found = (await closed.client.post("/v1/reconciliations", headers=operator(closed))).json()
    assert [(each["side"], each["is_passing"]) for each in found["items"]] == [("statements_and_digests", False)]


def operator(of: Api) -> dict[str, str]:
    return {"authorization": f"Bearer {of.key('', ('operate',))}"}


async def test_a_reconciliation_is_for_operators_and_refuses_what_are_no_claims(closed: Api) -> None:
    tenant = {"authorization": f"Bearer {closed.key()}"}
    before = dict(closed.world.store.records)

    refused = await closed.client.post("/v1/reconciliations", headers=tenant)
    wrong = await closed.client.post("/v1/reconciliations", headers=operator(closed), json={"kind": "Pod"})
    named = await closed.client.post(
        "/v1/reconciliations", headers={**operator(closed), "x-millrace-project": "acme/main"}
    )
    agreed = await closed.client.post(
        "/v1/reconciliations", params={"from": T0}, headers=operator(closed), json={"kind": "List", "items": []}
    )

    assert [each.status_code for each in (refused, wrong, named)] == [403, 422, 403]
    assert agreed.json() == {"items": [], "lasting": 0, "has_provider": True}
    assert closed.world.store.records == before
    assert any(kind == BOOKS for kind, _ in before)
