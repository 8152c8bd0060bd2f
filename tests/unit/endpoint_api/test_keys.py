"""Keys: made once, shown once, kept as a hash, refused for good once revoked."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from libs.common.decision import Give, Put
from libs.common.errors import Conflict, Invalid, NotFound, QuotaExceeded
from libs.common.events.endpoint import KeyRotated, Limits
from libs.common.events.envelope import from_wire
from libs.common.events.tables import KeyEntry
from libs.common.ids import KeyId
from libs.common.keys import Keyring, mint
from services.endpoint_api.core import keys, quotas
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.commands import CreateKey, RevokeKey, RotateKey, command_envelope
from services.endpoint_api.core.keys import Bounds
from services.endpoint_api.core.refusal import FieldRefused, Forbidden
from services.endpoint_api.core.state import Key
from services.endpoint_api.shell.bodies import CreateKeyBody
from services.endpoint_api.shell.bootstrap import record_bootstrap
from tests.unit.endpoint_api.given import BODY, NOW, CountingEntropy, Stand, a_caller, kinds, woke

MADE = CreateKey(
    tenant_id="acme", project_id="main", name="ci", scopes=("read",), sha256="ab" * 32, expires_at_ms=None,
    request="", keys_max=3, actor="key:k",
)  # fmt: skip
KEY = KeyId("abcdefghij")


def test_a_made_key_is_told_and_put_where_routers_look() -> None:
    decision = keys.decide(Key(KEY), command_envelope(KEY, MADE, NOW), NOW)

    assert kinds(decision) == ["key.created"]
    [put] = decision.puts
    assert put.value is not None
    entry = KeyEntry.model_validate_json(put.value)
    assert (put.bucket, put.key) == ("keys", KEY)
    assert (entry.sha256, entry.tenant_id, entry.scopes) == (MADE.sha256, "acme", ("read",))


def test_whatever_routers_are_told_of_a_key_takes_the_next_version_before_anything_else() -> None:
    made = keys.decide(Key(KEY), command_envelope(KEY, MADE, NOW), NOW)
    rotation = RotateKey(actor="key:k", successor="b" * 10, expires_at_ms=NOW)
    told = (
        made,
        keys.decide(made.state, command_envelope(KEY, RevokeKey(actor="key:k"), NOW), NOW),
        keys.decide(made.state, command_envelope(KEY, rotation, NOW), NOW),
    )

    # On PostgreSQL two rotations at once would else wait for each other's counters for ever.
    assert [each.counters[0] for each in told] == [keys.NEXT_VERSION] * 3
    assert [len(each.counters) for each in told] == [2] * 3


def test_a_revoked_key_is_taken_from_routers_and_stays_revoked() -> None:
    made = keys.decide(Key(KEY), command_envelope(KEY, MADE, NOW), NOW).state

    gone = keys.decide(made, command_envelope(KEY, RevokeKey(actor="key:k"), NOW), NOW + 5)
    again = keys.decide(gone.state, command_envelope(KEY, RevokeKey(actor="key:k"), NOW), NOW + 9)

    assert kinds(gone) == ["key.revoked"]
    assert gone.puts == (Put("keys", KEY, None),)
    assert (again.state, again.events, again.puts, again.counters) == (gone.state, (), (), ())
    with pytest.raises(Conflict):
        keys.decide(gone.state, command_envelope(KEY, MADE, NOW), NOW)


def test_a_key_that_never_was_can_not_be_revoked() -> None:
    with pytest.raises(NotFound):
        keys.decide(Key(KEY), command_envelope(KEY, RevokeKey(actor="key:k"), NOW), NOW)


def test_the_secret_is_in_the_answer_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    stand = Stand()
    caplog.set_level(logging.DEBUG)

    made = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"])

    secret = made.plaintext.split("_")[3]
    kept = repr([stand.store.records, stand.store.rows, stand.store.outbox, stand.store.inbox, made, caplog.records])
    logged = caplog.text + repr([vars(each) for each in caplog.records])
    assert secret not in kept
    assert secret not in logged
    assert made.key.id in kept


def test_what_routers_hold_lets_the_new_key_in_and_nothing_else() -> None:
    stand = Stand()
    made = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"])

    [put] = [each for each in stand.store.outbox.values() if each.subject == f"$KV.keys.{made.key.id}"]
    ring = Keyring({made.key.id: KeyEntry.model_validate_json(put.body)})

    assert ring.check(made.plaintext, now_ms=NOW) is not None
    assert ring.check(mint(CountingEntropy(99)).plaintext, now_ms=NOW) is None


def test_an_idempotency_key_makes_one_key() -> None:
    stand = Stand()
    stand.api.keys.create(Ask(a_caller(), idempotency_key="once"), name="ci", scopes=["read"])

    with pytest.raises(Conflict) as refusal:
        stand.api.keys.create(Ask(a_caller(), idempotency_key="once"), name="ci", scopes=["read"])

    assert refusal.value.code == "key_already_made"
    assert len(stand.api.keys.list(a_caller())) == 1
    assert stand.store.counter("keys/acme") == 1
    stand.api.keys.create(Ask(a_caller(tenant="other"), idempotency_key="once"), name="ci", scopes=["read"])


def test_keys_are_counted_and_a_revoked_one_makes_room() -> None:
    stand = Stand(keys_max=2)
    first = stand.api.keys.create(Ask(a_caller()), name="a", scopes=["read"])
    stand.api.keys.create(Ask(a_caller()), name="b", scopes=["read"])
    with pytest.raises(QuotaExceeded):
        stand.api.keys.create(Ask(a_caller()), name="c", scopes=["read"])

    stand.api.keys.revoke(Ask(a_caller()), first.key.id)
    stand.api.keys.revoke(Ask(a_caller()), first.key.id)

    stand.api.keys.create(Ask(a_caller()), name="c", scopes=["read"])
    with pytest.raises(QuotaExceeded):
        stand.api.keys.create(Ask(a_caller()), name="d", scopes=["read"])


def test_all_keys_of_a_project_are_listed_however_many() -> None:
    stand = Stand(keys_max=450)
    for n in range(401):
        stand.api.keys.create(Ask(a_caller()), name=f"k{n}", scopes=["read"])

    assert len(stand.api.keys.list(a_caller())) == 401


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "read"]])
def test_scopes_that_do_not_exist_are_refused(scopes: list[str]) -> None:
    with pytest.raises(FieldRefused):
        Stand().api.keys.create(Ask(a_caller()), name="ci", scopes=scopes)


@pytest.mark.parametrize("life_s", [0, -1, 59, 10**9])
def test_a_life_that_is_too_short_or_too_long_is_refused(life_s: int) -> None:
    with pytest.raises(FieldRefused):
        Stand().api.keys.create(Ask(a_caller()), name="ci", scopes=["read"], expires_in_s=life_s)


def test_a_key_that_may_only_read_makes_no_keys() -> None:
    reader = a_caller(scopes=frozenset({"read"}))

    with pytest.raises(Forbidden):
        Stand().api.keys.create(Ask(reader), name="ci", scopes=["read"])


def bootstrap(tmp_path: Path, **changes: object) -> Path:
    """A bootstrap file."""
    content = {"tenant_id": "acme", "project_id": "main", "key": mint(CountingEntropy()).plaintext, "scopes": ["read"]}
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(content | changes))
    return path


def test_the_bootstrap_key_is_recorded_once(tmp_path: Path) -> None:
    stand, path = Stand(), bootstrap(tmp_path)

    record_bootstrap(stand.api, path)
    before = stand.stored()
    record_bootstrap(stand.api, path)

    assert stand.stored() == before
    assert [each.name for each in stand.api.keys.list(a_caller())] == ["bootstrap"]


def test_a_bootstrap_key_that_was_revoked_stays_revoked(tmp_path: Path) -> None:
    stand, path = Stand(), bootstrap(tmp_path)
    record_bootstrap(stand.api, path)
    [key] = stand.api.keys.list(a_caller())
    stand.api.keys.revoke(Ask(a_caller()), key.id)

    record_bootstrap(stand.api, path)

    assert stand.api.keys.list(a_caller())[0].revoked_at is not None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": "mr_live_nonsense"}, "key"),
        ({"tenant_id": "Acme Inc"}, "tenant_id"),
        ({"project_id": "a/b"}, "project_id"),
        ({"scopes": ["root"]}, "scopes"),
        ({"scopes": None}, "scopes"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_bootstrap_file_is_refused_in_one_line(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    stand = Stand()

    with pytest.raises(Invalid, match=says) as refusal:
        record_bootstrap(stand.api, bootstrap(tmp_path, **changes))

    assert "\n" not in str(refusal.value)
    assert "mr_live" not in str(refusal.value)
    assert not stand.store.records


def test_a_bootstrap_key_of_the_same_id_for_another_tenant_is_refused(tmp_path: Path) -> None:
    stand = Stand()
    record_bootstrap(stand.api, bootstrap(tmp_path))

    with pytest.raises(Invalid, match="recorded before"):
        record_bootstrap(stand.api, bootstrap(tmp_path, tenant_id="other"))


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_an_unreadable_bootstrap_file_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "bootstrap.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(Invalid, match="bootstrap file"):
        record_bootstrap(Stand().api, path)


def test_in_overlap_both_keys_work_and_the_old_one_not_a_millisecond_longer() -> None:
    stand, hour_ms = Stand(), 3_600_000
    old = stand.api.keys.create(
        Ask(a_caller()), name="ci", scopes=["inference"], bounds=Bounds(models=("chat",)), is_test=True
    )

    new = stand.api.keys.rotate(Ask(a_caller()), old.key.id, overlap_s=3600)

    ring = Keyring()
    for each in sorted(stand.store.outbox.values(), key=lambda put: put.subject):
        if each.subject.startswith("$KV.keys."):
            ring.change(each.subject.rsplit(".", 1)[1], KeyEntry.model_validate_json(each.body))
    assert ring.check(old.plaintext, now_ms=NOW + hour_ms - 1) is not None
    assert ring.check(old.plaintext, now_ms=NOW + hour_ms) is None
    assert ring.check(new.plaintext, now_ms=NOW + hour_ms) is not None
    assert new.plaintext.startswith("mr_test_")
    assert (new.key.models, new.key.scopes, new.key.expires_at) == (("chat",), ("inference",), None)
    assert stand.api.keys.get(a_caller(), old.key.id).rotated_to == new.key.id


def test_a_key_is_rotated_once_and_not_when_it_is_over() -> None:
    stand = Stand()
    first = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["read"])
    second = stand.api.keys.rotate(Ask(a_caller()), first.key.id, overlap_s=0)

    with pytest.raises(Conflict) as over:
        stand.api.keys.rotate(Ask(a_caller()), first.key.id)
    stand.api.keys.revoke(Ask(a_caller()), second.key.id)
    with pytest.raises(Conflict) as revoked:
        stand.api.keys.rotate(Ask(a_caller()), second.key.id)

    assert (over.value.code, revoked.value.code) == ("key_rotated", "key_over")
    assert second.key.id in str(over.value)
    assert len(stand.api.keys.list(a_caller())) == 2
    assert [each.id for each in stand.api.keys.list(a_caller(), revoked=True)] == [second.key.id]


def test_a_rotation_is_one_commit_and_told_with_the_successor() -> None:
    stand = Stand()
    old = stand.api.keys.create(
        Ask(a_caller()), name="ci", scopes=["read"], bounds=Bounds(allowed_ips=("192.0.2.0/24",))
    ).key

    new = stand.api.keys.rotate(Ask(a_caller()), old.id, overlap_s=60).key

    told = [from_wire(each.headers, each.body) for each in stand.store.outbox.values() if each.stream == "MR_EVT"]
    [rotated] = [each.data for each in told if isinstance(each.data, KeyRotated)]
    assert (rotated.key_id, rotated.successor_id, rotated.old_expires_at_ms) == (old.id, new.id, NOW + 60_000)
    assert (new.allowed_ips, new.scopes) == (old.allowed_ips, old.scopes)
    assert stand.store.counter("keys/acme") == 2
    assert [each.deed.action for each in stand.store.deeds()][-2:] == ["rotate_key", "create_key"]


def test_a_rotation_that_is_refused_makes_no_key() -> None:
    stand = Stand(keys_max=1)
    old = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["read"]).key

    with pytest.raises(QuotaExceeded):
        stand.api.keys.rotate(Ask(a_caller()), old.id, overlap_s=60)
    refused = (stand.api.keys.list(a_caller()), stand.api.keys.get(a_caller(), old.id).rotated_to)
    new = stand.api.keys.rotate(Ask(a_caller()), old.id, overlap_s=0).key

    assert refused == ((old,), None)
    assert stand.api.keys.get(a_caller(), old.id).rotated_to == new.id
    assert stand.store.counter("keys/acme") == 1


def test_without_an_overlap_the_old_key_is_taken_from_routers_at_once() -> None:
    stand = Stand()
    old = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"])
    stand.api.tenants.adopt("acme", "main")

    stand.api.keys.rotate(Ask(a_caller()), old.key.id, overlap_s=0)

    puts = [each for each in stand.store.outbox.values() if each.subject == f"$KV.keys.{old.key.id}"]
    assert [each.headers.get("KV-Operation") for each in puts] == [None, "DEL"]
    asked = stand.client.get("/v1/keys", headers={"authorization": f"Bearer {old.plaintext}"})
    assert asked.status_code == 401


def test_a_second_rotation_at_the_same_time_finds_the_first() -> None:
    stand = Stand()
    old = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["read"]).key
    before = stand.keys.state(old.id)
    assert before is not None
    first = stand.api.keys.rotate(Ask(a_caller()), old.id).key

    late = RotateKey(actor="key:k", successor="zzzzzzzzzz", expires_at_ms=NOW)
    keys.check_rotation(before, overlap_s=0, now_ms=NOW)  # What a second one saw before the first was committed.
    with pytest.raises(Conflict, match=first.id):
        stand.keys.take_together(
            [
                (old.id, command_envelope(old.id, late, NOW, ask="zzzzzzzzzz")),
                ("zzzzzzzzzz", command_envelope("zzzzzzzzzz", MADE, NOW)),
            ]
        )

    assert {each.id for each in stand.api.keys.list(a_caller())} == {old.id, first.id}


def test_an_expired_key_makes_room_when_every_clock_agrees() -> None:
    made = keys.decide(Key(KEY), command_envelope(KEY, MADE.model_copy(update={"expires_at_ms": NOW + 9}), NOW), NOW)
    assert made.wake_at_ms is not None
    woken = woke(made.wake_at_ms)

    early = keys.decide(made.state, woken, NOW + 9)
    gone = keys.decide(made.state, woken, made.wake_at_ms)
    revoked = keys.decide(gone.state, command_envelope(KEY, RevokeKey(actor="key:k"), NOW), made.wake_at_ms)

    assert (early.wake_at_ms, early.puts) == (made.wake_at_ms, ())
    assert (gone.puts, gone.counters) == ((Put("keys", KEY, None),), (keys.NEXT_VERSION, Give("keys/acme", 1)))
    assert (keys.decide(gone.state, woken, made.wake_at_ms).counters, revoked.counters) == ((), (keys.NEXT_VERSION,))


def test_limits_of_a_key_are_told_to_routers_shown_and_kept_by_its_successor() -> None:
    stand = Stand()
    limits = Limits(requests_per_minute=60, tokens_per_minute=9_000, concurrency=4)
    old = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"], bounds=Bounds(limits=limits)).key

    new = stand.api.keys.rotate(Ask(a_caller()), old.id).key

    assert old.limits == new.limits == limits
    for each in (old, new):
        key = stand.api.keys._keys.state(each.id)
        assert key is not None
        entry = keys.entry_of(key)
        assert entry is not None
        assert (entry.requests_per_minute, entry.tokens_per_minute, entry.concurrency) == (60, 9_000, 4)


@pytest.mark.parametrize("limits", [{"rpm": 5}, {"concurrency": 0}, {"tokens_per_minute": "9"}])
def test_a_limit_that_is_not_one_is_refused_rather_than_left_out(limits: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CreateKeyBody.model_validate({"name": "ci", "scopes": ["inference"], "limits": limits})


@pytest.mark.parametrize(
    ("bounds", "scope"),
    [
        (Bounds(models=("A B",)), "read"), (Bounds(models=("chat", "chat")), "read"),
        (Bounds(models=("chat",)), "manage"), (Bounds(tokens_per_month=9), "manage"),
        (Bounds(limits=Limits(concurrency=1)), "manage"),
        (Bounds(money_per_month_nano=0), "manage"), (Bounds(allowed_ips=("10.0.0.1/8",)), "read"),
        (Bounds(allowed_ips=("here",)), "read"),
    ],
)  # fmt: skip
def test_bounds_that_can_not_be_meant_are_refused(bounds: Bounds, scope: str) -> None:
    with pytest.raises(FieldRefused):
        Stand().api.keys.create(Ask(a_caller()), name="ci", scopes=[scope], bounds=bounds)


def test_a_key_has_a_budget_and_its_successor_goes_on_spending_it() -> None:
    stand = Stand()
    bounds = Bounds(money_per_month_nano=5_000_000_000)
    old = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"], bounds=bounds).key

    new = stand.api.keys.rotate(Ask(a_caller()), old.id, overlap_s=60).key
    newest = stand.api.keys.rotate(Ask(a_caller()), new.id, overlap_s=60).key

    puts = [each for each in stand.store.outbox.values() if each.subject.startswith("$KV.keys.")]
    entries = {entry.key_id: entry for entry in (KeyEntry.model_validate_json(each.body) for each in puts)}
    assert {entries[each.id].budget for each in (old, new, newest)} == {f"acme.main.{old.id}"}
    assert entries[newest.id].money_per_month_nano == newest.money_per_month_nano == 5_000_000_000
    assert entries[newest.id].tokens_per_month == quotas.UNLIMITED  # Routers serve from slices of tokens alone.
    assert newest.tokens_per_month is None


def entries(stand: Stand) -> dict[str, KeyEntry]:
    """The keys as routers hear of them."""
    puts = [each for each in stand.store.outbox.values() if each.subject.startswith("$KV.keys.") and each.body]
    return {entry.key_id: entry for entry in (KeyEntry.model_validate_json(each.body) for each in puts)}


def test_a_changed_budget_is_that_of_all_keys_that_spend_it_and_goes_on_after_it_was_lifted() -> None:
    stand = Stand()
    bounds = Bounds(tokens_per_month=100)
    old = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"], bounds=bounds).key
    new = stand.api.keys.rotate(Ask(a_caller()), old.id, overlap_s=60).key
    other = stand.api.keys.create(Ask(a_caller()), name="other", scopes=["inference"], bounds=bounds).key

    raised = stand.api.keys.set_budget(Ask(a_caller(), "r1"), new.id, tokens=500, nano=None)
    told = entries(stand)
    lifted = stand.api.keys.set_budget(Ask(a_caller(), "r2"), new.id, tokens=None, nano=None)
    free = entries(stand)
    stand.api.keys.set_budget(Ask(a_caller(), "r3"), old.id, tokens=None, nano=7)

    assert (raised.tokens_per_month, lifted.tokens_per_month) == (500, None)
    assert [told[each.id].tokens_per_month for each in (old, new, other)] == [500, 500, 100]
    assert (free[new.id].budget, free[old.id].budget) == ("", "")
    assert {entries(stand)[each.id].budget for each in (old, new)} == {f"acme.main.{old.id}"}
    assert {entries(stand)[each.id].money_per_month_nano for each in (old, new)} == {7}
    assert [each.deed.action for each in stand.store.deeds()][-2:] == ["set_key_budget", "set_key_budget"]


def test_a_key_that_is_over_or_may_manage_or_is_of_another_tenant_gets_no_budget() -> None:
    stand = Stand()
    key = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"]).key
    manager = stand.api.keys.create(Ask(a_caller()), name="boss", scopes=["manage"]).key

    with pytest.raises(NotFound):
        stand.api.keys.set_budget(Ask(a_caller(tenant="other")), key.id, tokens=1, nano=None)
    with pytest.raises(FieldRefused):
        stand.api.keys.set_budget(Ask(a_caller()), manager.id, tokens=1, nano=None)
    stand.api.keys.revoke(Ask(a_caller()), key.id)
    with pytest.raises(Conflict) as over:
        stand.api.keys.set_budget(Ask(a_caller()), key.id, tokens=1, nano=None)

    assert over.value.code == "key_over"
    assert key.id not in {each.key_id for each in entries(stand).values() if each.budget}


def test_a_key_without_a_budget_spends_none_of_its_own() -> None:
    stand = Stand()
    stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"])

    (put,) = [each for each in stand.store.outbox.values() if each.subject.startswith("$KV.keys.")]
    entry = KeyEntry.model_validate_json(put.body)
    assert (entry.budget, entry.tokens_per_month, entry.money_per_month_nano) == ("", None, None)


def test_another_tenants_key_can_not_be_rotated_or_read() -> None:
    stand = Stand()
    key = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["read"]).key

    with pytest.raises(NotFound):
        stand.api.keys.rotate(Ask(a_caller(tenant="other")), key.id)
    with pytest.raises(NotFound):
        stand.api.keys.get(a_caller(tenant="other"), key.id)


def test_a_key_is_rotated_over_http_and_shown_once() -> None:
    stand = Stand()
    headers = stand.headers()
    made = stand.client.post("/v1/keys", json={"name": "ci", "scopes": ["read"]}, headers=headers).json()

    rotated = stand.client.post(f"/v1/keys/{made['id']}/rotate", json={"overlap_s": 60}, headers=headers)
    read = stand.client.get(f"/v1/keys/{rotated.json()['id']}", headers=headers)

    assert rotated.status_code == 201
    assert rotated.headers["cache-control"] == "no-store"
    assert rotated.json()["key"] not in read.text


def test_a_start_makes_the_tenants_of_keys_that_are_older_than_records_of_tenants(tmp_path: Path) -> None:
    stand = Stand()
    old = [mint(CountingEntropy(seed)).plaintext for seed in (50, 60)]
    for key, project in zip(old, ("main", "side"), strict=True):
        stand.api.keys.record(key, tenant_id="initech", project_id=project, name="old", scopes=["read"])
    refused = stand.client.get("/v1/keys", headers={"authorization": f"Bearer {old[1]}"}).status_code

    record_bootstrap(stand.api, bootstrap(tmp_path))

    assert refused == 401
    for key in old:
        assert stand.client.get("/v1/keys", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_the_operators_key_operates_and_does_nothing_else(tmp_path: Path) -> None:
    stand = Stand()
    operator_key = mint(CountingEntropy(99)).plaintext
    path = bootstrap(tmp_path, operator_key=operator_key)

    record_bootstrap(stand.api, path)
    record_bootstrap(stand.api, path)

    headers = {"authorization": f"Bearer {operator_key}"}
    assert [each["id"] for each in stand.client.get("/v1/tenants", headers=headers).json()["items"]] == ["acme"]
    acme = {**headers, "x-millrace-project": "acme/main"}
    assert stand.client.get("/v1/endpoints", headers=acme).status_code == 200
    assert stand.client.post("/v1/endpoints", json=BODY, headers=acme).status_code == 403
    assert stand.client.get("/v1/endpoints", headers={**headers, "x-millrace-project": "no/no"}).status_code == 403
