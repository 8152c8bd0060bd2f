"""A domain that was proved is looked at again: what it means that a proof is gone, when, and for whom."""

from __future__ import annotations

from typing import Any, Final

import pytest

from libs.common.errors import Unavailable
from libs.common.events.envelope import from_wire
from libs.common.events.route import RoutePublished
from libs.common.events.runtime import RuntimeFailed
from libs.common.events.tenant import DomainChanged
from libs.common.units import DAY_MS, HOUR_MS
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.domains import proof_of, record_of
from services.endpoint_api.core.proofs import GRACE_MS, LOOK_EVERY_MS, MISSES_MAX, Proof, Standing, due_ms, looked
from services.endpoint_api.shell.proofs import LOOKS_MAX, UNANSWERED_MAX
from tests.unit.endpoint_api.given import NOW, PROGRESS, Stand, a_caller
from tests.unit.endpoint_api.test_domains import DOMAIN, HOST, create, prove, readdress
from tests.unit.endpoint_api.test_http import assert_problem

NEXT_MS: Final = LOOK_EVERY_MS * 5 // 4  # No look is later than this after the one before.


def gone(stand: Stand, domain: str = DOMAIN) -> None:
    stand.zones.said.pop(record_of(domain))


def pass_days(stand: Stand, looks: int) -> None:
    for _ in range(looks):
        stand.clock.advance(NEXT_MS)
        stand.api.proofs.run()


def lapse(stand: Stand) -> None:
    """Gone for so long that the grace is over, and seen to be."""
    gone(stand)
    pass_days(stand, MISSES_MAX)
    stand.clock.advance(GRACE_MS)
    stand.api.proofs.run()


def shown(stand: Stand, headers: dict[str, str], domain: str = DOMAIN) -> dict[str, Any]:
    found: dict[str, Any] = stand.client.get(f"/v1/domains/{domain}", headers=headers).json()
    return found


def told(stand: Stand) -> list[tuple[str, str]]:
    messages = [each for each in stand.store.outbox.values() if "domain-changed" in each.subject]
    events = [from_wire(each.headers, each.body) for each in messages]
    return [(each.data.project_id, each.data.status) for each in events if isinstance(each.data, DomainChanged)]


def test_a_proof_lapses_after_so_many_looks_and_is_lost_after_the_grace() -> None:
    proof, now_ms = Proof(seen_ms=NOW, looked_ms=NOW), NOW
    standings = []
    for _ in range(MISSES_MAX):
        now_ms += DAY_MS
        proof = looked(proof, is_there=False, now_ms=now_ms)
        standings.append(proof.standing)

    before = looked(proof, is_there=False, now_ms=proof.lapses_ms - 1)
    after = looked(before, is_there=False, now_ms=proof.lapses_ms)

    assert standings == [*[Standing.VERIFIED] * (MISSES_MAX - 1), Standing.LAPSING]
    assert (proof.lapses_ms, proof.seen_ms) == (now_ms + GRACE_MS, NOW)
    assert (before.standing, after.standing) == (Standing.LAPSING, Standing.LAPSED)
    assert after.lapsed_ms == proof.lapses_ms


def test_a_proof_that_is_there_again_makes_good_all_that_was() -> None:
    proof = Proof(seen_ms=1, looked_ms=9, missed=7, lapses_ms=8, lapsed_ms=9)

    assert looked(proof, is_there=True, now_ms=20) == Proof(seen_ms=20, looked_ms=20)


def test_looks_are_a_day_apart_give_or_take_a_quarter_and_not_all_at_once() -> None:
    found = {due_ms(f"{name}.example", Proof(), since_ms=NOW) - NOW for name in range(100)}

    assert min(found) >= LOOK_EVERY_MS * 3 // 4
    assert max(found) < NEXT_MS
    assert len({each // HOUR_MS for each in found}) == 12


def test_while_its_proof_is_gone_no_new_host_name_is_given_and_what_has_one_keeps_it() -> None:
    stand = Stand()
    headers = prove(stand)
    made = create(stand, headers).json()["endpoint_id"]
    stand.hear(made, PROGRESS)
    gone(stand)
    pass_days(stand, MISSES_MAX)

    found = shown(stand, headers)
    assert (found["status"], found["verified"]) == ("lapsing", True)
    assert found["lapses_at"] > found["proof_seen_at"]
    assert_problem(create(stand, headers, "more", "more.acme.example"), 422, "domain_lapsing", "spec.hostname")
    assert_problem(readdress(stand, headers, "new.acme.example"), 422, "domain_lapsing", "spec.hostname")
    scaled = stand.client.patch("/v1/endpoints/chat", json={"spec": {"scaling": {"max": 2}}}, headers=headers)
    assert scaled.status_code == 202
    endpoint = stand.client.get("/v1/endpoints/chat", headers=headers).json()
    assert (endpoint["spec"]["hostname"], endpoint["status"]["stage"]) == (HOST, "ready")


def test_each_project_of_the_tenant_is_told_once_of_each_standing() -> None:
    stand = Stand()
    headers = prove(stand)
    stand.headers("acme", "side")
    stand.headers("other", "main")

    lapse(stand)
    pass_days(stand, 3)
    prove(stand)
    pass_days(stand, 1)

    statuses = ("lapsing", "lapsed", "verified")
    assert told(stand) == [(project, each) for each in statuses for project in ("main", "side")]
    assert shown(stand, headers)["status"] == "verified"


def test_a_resolver_that_does_not_answer_says_nothing_of_any_proof() -> None:
    stand = Stand()
    headers = prove(stand)
    stand.zones.is_away = True
    before = stand.stored()

    for _ in range(5 * MISSES_MAX):
        stand.clock.advance(NEXT_MS)
        with pytest.raises(Unavailable):
            stand.api.proofs.run()

    assert stand.stored() == before
    assert shown(stand, headers)["status"] == "verified"


def test_zones_that_are_silent_hold_up_no_other() -> None:
    stand = Stand()
    dead = [f"a{number}.example" for number in range(UNANSWERED_MAX + 1)]
    for each in (*dead, "z.example"):
        headers = prove(stand, each)
    stand.zones.silent = {record_of(each) for each in dead}
    gone(stand, "z.example")

    for _ in range(MISSES_MAX):
        stand.clock.advance(NEXT_MS)
        for _ in range(2):  # More of them than a pass waits for: the next begins behind those.
            with pytest.raises(Unavailable):
                stand.api.proofs.run()

    assert shown(stand, headers, "z.example")["status"] == "lapsing"
    assert {shown(stand, headers, each)["status"] for each in dead} == {"verified"}


def test_a_look_in_between_that_finds_it_begins_the_count_anew() -> None:
    stand = Stand()
    headers = prove(stand)
    gone(stand)
    pass_days(stand, MISSES_MAX - 1)
    stand.zones.said[record_of(DOMAIN)] = (proof_of(DOMAIN, "acme"),)
    pass_days(stand, 1)
    gone(stand)
    pass_days(stand, MISSES_MAX - 1)

    assert shown(stand, headers)["status"] == "verified"
    assert told(stand) == []


def test_who_puts_the_record_back_need_not_wait_for_the_next_look() -> None:
    stand = Stand()
    headers = prove(stand)
    gone(stand)
    pass_days(stand, MISSES_MAX)

    refused = stand.client.post("/v1/domains", json={"domain": DOMAIN}, headers=headers)
    stand.zones.said[record_of(DOMAIN)] = (proof_of(DOMAIN, "acme"),)
    again = stand.client.post("/v1/domains", json={"domain": DOMAIN}, headers=headers)

    assert_problem(refused, 422, "domain_not_verified", "domain")
    assert (again.status_code, again.json()["status"]) == (200, "verified")
    assert create(stand, headers).status_code == 202


def test_another_tenant_has_it_when_the_grace_is_over_and_not_before() -> None:
    stand = Stand()
    mine = prove(stand)
    made = create(stand, mine).json()["endpoint_id"]
    stand.hear(made, PROGRESS)
    gone(stand)
    pass_days(stand, MISSES_MAX)
    stand.zones.said[record_of(DOMAIN)] = (proof_of(DOMAIN, "other"),)
    theirs = stand.headers("other")
    body = {"domain": DOMAIN}

    assert_problem(stand.client.post("/v1/domains", json=body, headers=theirs), 422, "domain_taken", "domain")
    stand.clock.advance(GRACE_MS)
    stand.api.proofs.run()
    taken = stand.client.post("/v1/domains", json=body, headers=theirs)

    assert taken.status_code == 200
    assert (shown(stand, mine)["status"], shown(stand, theirs)["status"]) == ("unverified", "verified")
    assert_problem(create(stand, theirs), 422, "hostname_taken", "spec.hostname")  # Until it is taken from ours.
    stand.api.proofs.run()
    status = stand.client.get("/v1/endpoints/chat", headers=mine).json()
    assert (status["spec"]["hostname"], status["status"]["stage"]) == ("", "updating")
    stand.hear(made, (RoutePublished(url="https://api.example/v1"),), generation=2, first=100)
    assert create(stand, theirs).status_code == 202
    stand.api.proofs.run()
    assert not next(each.has_strangers for each in stand.tenancy.domains.every() if each.name == DOMAIN)


@pytest.mark.parametrize("stage", ["paused", "failed"])
def test_what_does_not_run_loses_its_name_and_is_not_started_by_it(stage: str) -> None:
    stand = Stand()
    mine = prove(stand)
    made = create(stand, mine).json()["endpoint_id"]
    if stage == "paused":
        stand.hear(made, PROGRESS)
        stand.client.post("/v1/endpoints/chat/pause", headers=mine)
    else:
        stand.hear(made, (RuntimeFailed(reason="CrashLoopBackOff", message="it exits"),))
    lapse(stand)
    prove(stand, tenant="other")

    for _ in range(3):
        stand.api.proofs.run()

    endpoint = stand.client.get("/v1/endpoints/chat", headers=mine).json()
    assert endpoint["spec"]["hostname"] == ""
    assert endpoint["status"]["stage"] in ("pausing", "paused")
    assert stand.store.counters[f"hostname/{HOST}"] == 0


def test_a_pass_looks_at_so_many_and_the_next_at_the_rest() -> None:
    stand = Stand()
    for number in range(LOOKS_MAX + 3):
        name = f"d{number}.example"
        stand.zones.said[record_of(name)] = (proof_of(name, "acme"),)
        stand.api.domains.verify(Ask(a_caller(), name), name)
    stand.clock.advance(NEXT_MS)

    assert [stand.api.proofs.run() for _ in range(3)] == [LOOKS_MAX, 3, 0]


def test_two_processes_that_look_at_once_count_one_look() -> None:
    stand = Stand()
    prove(stand)
    gone(stand)
    stand.clock.advance(NEXT_MS)
    (known,) = stand.tenancy.domains.every()

    for _ in range(2):
        stand.api.proofs.look(known)

    (after,) = stand.tenancy.domains.every()
    assert after.proof.missed == 1
