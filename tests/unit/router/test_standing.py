"""What the requests of a key for an endpoint have in common: found once, and never longer good than what it is of."""

from __future__ import annotations

import pytest

from libs.common.events.tables import KeyEntry, QuotaEntry, RouteEntry
from libs.common.keys import Keyring
from services.router.core import openai
from services.router.core.refusals import HttpRefusal
from services.router.core.surface import Api
from services.router.shell.engines.table import RouteTable
from services.router.shell.limits.quotas import QuotaTable
from services.router.shell.request.standing import Standings
from tests.unit.router.scene import ENDPOINT, KEY, PROJECT, TENANT, a_route, chat_body, key_entry
from tests.unit.router.test_table import Request

ASK = openai.read(Api.CHAT, chat_body())


class Door:
    """Tables as the control half fills them, and what a request finds."""

    def __init__(self) -> None:
        self.table, self.quotas = RouteTable(), QuotaTable(Keyring())
        self.standings = Standings(self.table, self.quotas)
        self.key = key_entry(KEY)
        self.route(a_route(["http://127.64.0.1:8000"]))

    def route(self, entry: RouteEntry | None) -> None:
        self.table.change(ENDPOINT, None if entry is None else entry.model_dump_json().encode())

    def quota(self, requests: int) -> None:
        entry = QuotaEntry(tenant_id=TENANT, project_id=PROJECT, requests_per_minute=requests)
        self.quotas.change(f"{TENANT}.{PROJECT}", entry.model_dump_json().encode())

    def limits(self, key: KeyEntry | None = None) -> list[int | None]:
        """What a request must pass; it has left when this returns."""
        request = Request()
        standing = self.standings.enter(request, key or self.key, ASK)
        assert self.table.live(ENDPOINT) == 1
        self.table.leave(request, ENDPOINT)
        return [each.requests or each.at_once for each in standing.limits]


def test_what_was_found_is_found_again() -> None:
    door, first, second = Door(), Request(), Request()

    found = door.standings.enter(first, door.key, ASK)

    assert door.standings.enter(second, door.key, ASK) is found
    assert door.table.live(ENDPOINT) == 2


def test_the_next_request_sees_what_was_said_of_quotas_routes_and_keys() -> None:
    door = Door()
    assert door.limits() == []

    door.quota(7)
    assert door.limits() == [7]

    door.quota(8)
    door.route(a_route(["http://127.64.0.1:8000"]).model_copy(update={"generation": 9}))
    assert door.limits() == [8]

    assert door.limits(door.key.model_copy(update={"concurrency": 3})) == [8, 3]


def test_nobody_enters_by_what_held_before_the_route_was_withdrawn_or_paused() -> None:
    door = Door()
    door.limits()

    door.route(a_route(["http://127.64.0.1:8000"]).model_copy(update={"paused": True}))
    with pytest.raises(HttpRefusal) as paused:
        door.limits()
    door.route(None)
    with pytest.raises(HttpRefusal) as withdrawn:
        door.limits()

    assert (paused.value.status, withdrawn.value.status) == (503, 404)
    assert door.table.live(ENDPOINT) == 0


def test_who_may_not_use_it_is_not_counted_as_running() -> None:
    door = Door()
    embeddings = openai.read(Api.EMBEDDINGS, b'{"model":"%s","input":"x"}' % ASK.model.encode())

    with pytest.raises(HttpRefusal):
        door.standings.enter(Request(), door.key, embeddings)
    with pytest.raises(HttpRefusal):
        door.standings.enter(Request(), door.key.model_copy(update={"models": ("another",)}), ASK)

    assert door.table.live(ENDPOINT) == 0


def test_what_held_in_another_edition_is_not_kept() -> None:
    door = Door()
    for number in range(3):
        door.limits(door.key.model_copy(update={"key_id": f"key-{number}"}))
    assert len(door.standings) == 3

    door.route(a_route([]).model_copy(update={"paused": False, "replicas": a_route(["http://127.64.0.2:1"]).replicas}))
    door.limits()

    assert len(door.standings) == 1
