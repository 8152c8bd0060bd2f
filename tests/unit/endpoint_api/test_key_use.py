"""When a key was last used: the highest minute that anybody told, wherever it was used."""

from __future__ import annotations

from itertools import permutations
from typing import Final

import pytest

from libs.common.events.route import KeyUsed, UsedKey
from libs.common.units import MINUTE_MS
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.service import EndpointApi
from tests.unit.endpoint_api.given import NOW, Stand, a_caller, told

MINUTE: Final = NOW - NOW % MINUTE_MS


def used(key_id: str, at_ms: int, *, instance: str = "router-0") -> KeyUsed:
    return KeyUsed(instance=instance, keys=(UsedKey(key_id=key_id, last_used_ms=at_ms),))


@pytest.mark.parametrize("order", [*permutations((0, 1, 2))])
def test_the_highest_minute_stays_in_any_order_and_any_repeat(order: tuple[int, ...]) -> None:
    stand = Stand()
    key = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"]).key

    for minute in (*order, *order):
        stand.service.handle(told(used(key.id, MINUTE + minute * MINUTE_MS), sequence=minute, about="router-0"))

    last = stand.keys.state(key.id)
    assert last is not None
    assert last.last_used_ms == MINUTE + 2 * MINUTE_MS
    assert key.last_used_at is None


def test_a_minute_that_two_routers_tell_is_written_once_and_changes_nothing_else() -> None:
    stand = Stand()
    made = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"], expires_in_s=3600).key
    before = stand.store.load("key", made.id)
    assert before is not None
    for instance in ("router-0", "router-1"):
        stand.service.handle(told(used(made.id, MINUTE, instance=instance), about=instance))

    after = stand.store.load("key", made.id)
    assert after is not None
    assert (after.version, after.wake_at_ms, after.sequence) == (before.version + 1, before.wake_at_ms, before.sequence)
    assert stand.api.keys.get(a_caller(), made.id).last_used_at == "2027-01-15T08:00:00.000Z"


def test_a_key_that_nobody_made_leaves_nothing() -> None:
    stand = Stand()
    before = stand.stored()

    stand.service.handle(told(used("zzzzzzzzzz", MINUTE), about="router-0"))

    assert (stand.stored(), stand.keys.state("zzzzzzzzzz")) == (before, None)


def test_a_revoked_key_keeps_when_it_was_used_and_stays_revoked() -> None:
    stand = Stand()
    key = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["inference"]).key
    stand.api.keys.revoke(Ask(a_caller()), key.id)

    stand.service.handle(told(used(key.id, MINUTE), about="router-0"))

    view = stand.api.keys.get(a_caller(), key.id)
    assert view.revoked_at is not None
    assert view.last_used_at is not None


def test_a_use_here_is_written_once_a_minute_and_not_by_the_request() -> None:
    stand = Stand()
    headers = stand.headers()
    before = stand.stored()
    for _ in range(5):
        assert stand.client.get("/v1/keys", headers=headers).status_code == 200
    unwritten = stand.stored()
    assert isinstance(stand.service, EndpointApi)
    assert stand.service.key_uses is not None

    written = [stand.service.key_uses.run() for _ in range(3)]
    stand.client.get("/v1/keys", headers=headers)
    written.append(stand.service.key_uses.run())
    stand.clock.advance(MINUTE_MS)
    [shown] = stand.client.get("/v1/keys", headers=headers).json()["items"]
    written.append(stand.service.key_uses.run())

    assert unwritten == before
    assert written == [1, 0, 0, 0, 1]
    assert shown["last_used_at"] == "2027-01-15T08:00:00.000Z"


def test_a_refused_key_is_not_used() -> None:
    stand = Stand()
    headers = stand.headers()
    [key] = stand.api.keys.list(a_caller())
    stand.api.keys.revoke(Ask(a_caller()), key.id)

    assert stand.client.get("/v1/keys", headers=headers).status_code == 401
    assert isinstance(stand.service, EndpointApi)
    assert stand.service.key_uses is not None
    assert stand.service.key_uses.run() == 0
