"""Routers of several hosts: what each says, what the first makes of it, and how confirmations get to the others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from libs.common.bus.port import Message
from libs.common.clock import ManualClock
from libs.common.events.tables import ConfirmedEntry, HostEntry, HostRoute, RouteEntry
from libs.common.events.usage import UsageConfirmed
from services.router.shell.hosts.confirming import IDS_MAX, RING, Confirmed, Confirming, host_of
from services.router.shell.hosts.others import CUTTING_S, SILENT_S, Hosts, HostsTable
from services.router.shell.hosts.saying import AGAIN_MS, KEPT_MS, Sayings
from services.router.shell.workers.team import mark_of
from tests.unit.router.scene import a_route

EP = "ep-1"


@dataclass
class Plane:
    """One host's data plane."""

    routes: dict[str, RouteEntry] = field(default_factory=dict)
    running: int = 0
    cuts: int = 0

    def held(self, endpoint_id: str) -> RouteEntry | None:
        return self.routes.get(endpoint_id)

    def is_lost(self, _endpoint_id: str) -> bool:
        return False

    def live(self, _endpoint_id: str) -> int:
        return self.running

    def streams_cut(self, _endpoint_id: str) -> int:
        return self.cuts

    def cut(self, _endpoint_id: str) -> None:
        self.cuts += self.running
        self.running = 0


class Sayer:
    """A host that says what it serves."""

    def __init__(self) -> None:
        self.plane, self.clock, self.cutting = Plane(), ManualClock(0), tuple[str, ...]()
        self.sayings = Sayings(
            self.plane,
            lambda: tuple(self.plane.routes),
            self.clock,
            instance="router-2",
            boot_id="b",
            cutting=lambda: self.cutting,
        )

    def said(self) -> HostEntry | None:
        message = self.sayings.next()
        return None if message is None else HostEntry.model_validate_json(message.body)

    def route(self) -> HostRoute | None:
        self.clock.advance(AGAIN_MS)
        said = self.said()
        assert said is not None
        return said.routes.get(EP)


def test_a_host_says_what_changed_at_once_and_the_same_every_two_seconds() -> None:
    sayer = Sayer()
    assert sayer.said() is not None
    assert sayer.said() is None
    sayer.plane.routes[EP] = a_route(("http://10.0.0.1:8000",))
    assert sayer.said() is not None
    assert sayer.said() is None
    sayer.clock.advance(AGAIN_MS)
    assert sayer.said() is not None


def test_of_what_lets_nobody_in_it_is_told_what_runs_until_nothing_does_and_a_while_longer() -> None:
    sayer = Sayer()
    sayer.plane.routes[EP] = held = a_route(("http://10.0.0.1:8000",))
    sayer.plane.running = 2
    assert sayer.route() == HostRoute(mark=mark_of(held), lets_in=True), "told only when it matters"
    del sayer.plane.routes[EP]
    for _ in range(3):
        assert sayer.route() == HostRoute(mark=0, lets_in=False, live=2)
    sayer.plane.cut(EP)
    assert sayer.route() == HostRoute(mark=0, lets_in=False, cut=2)
    sayer.clock.advance(KEPT_MS)
    assert sayer.route() is None


def test_a_route_that_was_gone_before_anybody_looked_is_told_of_if_a_request_of_it_runs() -> None:
    sayer = Sayer()
    sayer.plane.running = 1
    sayer.sayings.note(EP, None)
    assert sayer.route() == HostRoute(mark=0, lets_in=False, live=1)


def test_after_its_last_word_a_host_says_nothing() -> None:
    sayer = Sayer()
    assert sayer.sayings.farewell().headers == {"KV-Operation": "DEL"}
    sayer.plane.routes[EP] = a_route(("http://10.0.0.1:8000",))
    assert sayer.said() is None


class First:
    """The first host, and what it was told to end as another one."""

    def __init__(self) -> None:
        self.now_s, self.plane, self.told = 0.0, Plane(), list[str]()
        self.hosts = Hosts("router-1", lambda: self.now_s, self.told.append)
        self.table = HostsTable(self.plane, self.hosts, lambda: self.now_s)

    def hear(self, instance: str, route: HostRoute | None, *cutting: str) -> None:
        routes = {} if route is None else {EP: route}
        said = HostEntry(instance=instance, boot_id="b", at_ms=0, routes=routes, cutting=cutting)
        self.hosts.change(instance, said.model_dump_json().encode())


def test_a_route_is_held_when_every_host_holds_the_same() -> None:
    first = First()
    first.plane.routes[EP] = held = a_route(("http://10.0.0.1:8000",))
    assert first.table.held(EP) is held, "there is no other"
    same = HostRoute(mark=mark_of(held), lets_in=True)
    first.hear("router-2", None)
    first.hear("router-3", same)
    found = first.table.held(EP)
    assert found is not None
    assert (found.generation, found.paused) == (0, False), "one has it not: it is none that could be told published"
    first.hear("router-2", same)
    assert first.table.held(EP) is held
    first.hear("router-2", HostRoute(mark=1, lets_in=True))
    assert first.table.held(EP) is not held


def test_it_is_gone_when_none_lets_anybody_in() -> None:
    first = First()
    first.hear("router-2", HostRoute(mark=1, lets_in=True))
    assert first.table.held(EP) is not None
    first.hear("router-2", HostRoute(mark=0, lets_in=False, live=3))
    first.hear("router-3", HostRoute(mark=0, lets_in=False, live=1, cut=2))
    first.plane.running = 1
    assert first.table.held(EP) is None
    assert (first.table.live(EP), first.table.streams_cut(EP)) == (5, 2)


def test_a_host_that_said_farewell_or_was_silent_for_long_counts_no_more() -> None:
    first = First()
    for instance in ("router-2", "router-3"):
        first.hear(instance, HostRoute(mark=1, lets_in=True))
    assert first.hosts.heard() == 2
    first.hosts.change("router-2", None)
    first.now_s = SILENT_S - 0.1
    assert first.table.held(EP) is not None
    assert first.hosts.heard() == 1
    first.now_s = SILENT_S
    assert first.table.held(EP) is None
    assert first.hosts.heard() == 0


def test_what_nobody_can_read_changes_nothing_and_its_own_word_is_no_news() -> None:
    first = First()
    first.hear("router-2", HostRoute(mark=1, lets_in=True))
    first.hosts.change("router-2", b"{")
    assert first.table.held(EP) is not None
    first.hear("router-1", HostRoute(mark=0, lets_in=False, live=9))
    assert first.table.live(EP) == 0


def test_a_cut_is_asked_of_all_for_a_while() -> None:
    first = First()
    first.plane.running = 1
    first.table.cut(EP)
    assert first.plane.cuts == 1
    assert first.table.cutting() == (EP,)
    first.now_s = CUTTING_S
    assert first.table.cutting() == ()

    first.hear("router-0", None, "ep-7", "ep-8")
    assert first.told == ["ep-7", "ep-8"]


def words(messages: list[Message]) -> list[tuple[str, tuple[str, ...]]]:
    return [
        (each.subject.removeprefix("$KV.confirmed."), ConfirmedEntry.model_validate_json(each.body).request_ids)
        for each in messages
    ]


async def test_confirmations_go_to_the_host_whose_worker_reported_and_not_to_ones_own() -> None:
    confirming = Confirming(instance="router-1", boot_id="b", loop=asyncio.get_running_loop())
    for instance, request_id in (("router-2-w1", "a"), ("router-1-w3", "b"), ("router-3", "c"), ("router-2-w1", "d")):
        confirming.forward(UsageConfirmed(instance=instance, request_ids=(request_id,)))
    assert words(confirming.due()) == [("router-2.0", ("a", "d")), ("router-3.1", ("c",))]
    assert confirming.due() == []

    many = tuple(map(str, range(IDS_MAX * (RING + 1))))
    confirming.forward(UsageConfirmed(instance="router-2", request_ids=many))
    found = words(confirming.due())
    assert [each for _, ids in found for each in ids] == list(many)
    assert len({key for key, _ in found}) == RING, "the ring is round"


async def test_a_host_hears_what_is_for_its_workers() -> None:
    heard: list[str] = []
    confirmed = Confirmed("router-2", lambda told: heard.append(told.instance))
    for key, instance in (("router-2.5", "router-2-w1"), ("router-22.5", "router-22"), ("router-2.6", "router-2")):
        confirmed.change(key, ConfirmedEntry(instance=instance, request_ids=("a",)).model_dump_json().encode())
    confirmed.change("router-2.7", b"{")
    confirmed.change("router-2.5", None)
    async with asyncio.timeout(30):
        while len(heard) < 2:
            await asyncio.sleep(0.01)
    assert sorted(heard) == ["router-2", "router-2-w1"]


def test_a_worker_is_of_the_host_that_its_name_begins_with() -> None:
    assert [host_of(each) for each in ("router-2", "router-2-w1", "edge-wx")] == ["router-2", "router-2", "edge-wx"]
