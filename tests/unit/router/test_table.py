"""The data plane's table, its balancing, its load figures, and the copy that it starts from."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from libs.common.bus.streams import KEYS, QUOTAS, ROUTES
from libs.common.clock import ManualClock
from services.router.core.balancing import Rules
from services.router.core.ejection import FAILURES_MAX
from services.router.core.load import LoadMeter
from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.target import Target
from services.router.shell.told.copies import STALE_MS, Copies
from services.router.shell.told.load import LoadReporter
from tests.unit.router.scene import ENDPOINT, NAME, PROJECT, TENANT, a_route

A, B, C = "http://127.64.0.1:8000", "http://127.64.0.2:8000", "http://127.64.0.3:8000"


class Request:
    """A running request that notes being cut."""

    def __init__(self) -> None:
        self.is_cut = False

    def unbilled_tokens(self) -> int:
        return 7

    def cut(self) -> None:
        self.is_cut = True


def a_table(*urls: str) -> RouteTable:
    table = RouteTable()
    table.change(ENDPOINT, a_route(urls).model_dump_json().encode())
    return table


def test_a_paused_route_is_found_lets_nothing_in_and_is_not_listed() -> None:
    table = a_table(A)
    running = Request()
    table.enter(running, tenant_id=TENANT, project_id=PROJECT, name=NAME)
    route = a_route(()).model_copy(update={"paused": True})

    table.change(ENDPOINT, route.model_dump_json().encode())
    found = table.enter(Request(), tenant_id=TENANT, project_id=PROJECT, name=NAME)

    assert found is not None
    assert found.entry.paused
    assert table.live(ENDPOINT) == 1, "what ran before may finish"
    assert table.of_project(tenant_id=TENANT, project_id=PROJECT) == []


def test_a_replica_that_serves_another_model_now_is_another_seat() -> None:
    table = a_table(A)
    target = table.enter(Request(), tenant_id=TENANT, project_id=PROJECT, name=NAME)
    assert target is not None
    before = target.seats
    renamed = a_route((A,)).replicas[0].model_copy(update={"model": "m-2"})

    table.change(ENDPOINT, a_route(()).model_copy(update={"replicas": (renamed,)}).model_dump_json().encode())

    assert [each.model for each in (*before, *target.seats)] == ["", "m-2"]


def test_a_retry_avoids_the_replica_that_failed_unless_it_is_the_only_one() -> None:
    many, one = a_table(A, B), a_table(A)
    for table, expected in ((many, {B}), (one, {A})):
        target = table.enter(Request(), tenant_id=TENANT, project_id=PROJECT, name=NAME)
        assert target is not None
        failed = next(each for each in target.seats if each.url == A)
        found = [target.choose(avoid=failed) for _ in range(4)]
        assert {each.url for each in found if each} == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 2)), min_size=3, max_size=3))
def test_the_short_way_chooses_who_remembers_the_prompt_exactly_where_the_careful_one_does(
    replicas: list[tuple[int, int, int]],
) -> None:
    target = Target(a_route((A, B, C)))
    for seat, (outstanding, load, faults) in zip(target.seats, replicas, strict=True):
        seat.outstanding, seat.load = outstanding, load
        for _ in range(faults * FAILURES_MAX // 2):
            seat.health.failed(0.0)
    knows, prompt = target.seats[1], (7,)
    target.memory.learn(prompt, knows.name)

    careful = target._choose_with_care(1.0, None, 3, prompt, "", Rules())
    target.memory.learn(prompt, knows.name)
    found = target.choose(now_s=1.0, outstanding_max=3, prompt=prompt)

    assert (found is knows) == (careful is knows)
    assert (found is None) == (careful is None)


def test_what_a_replica_has_to_do_is_remembered_when_others_come_and_go() -> None:
    table = a_table(A, B)
    before = table.enter(Request(), tenant_id=TENANT, project_id=PROJECT, name=NAME)
    assert before is not None
    next(each for each in before.seats if each.url == A).outstanding = 3

    table.change(ENDPOINT, a_route([C, A]).model_dump_json().encode())

    after = table.enter(Request(), tenant_id=TENANT, project_id=PROJECT, name=NAME)
    assert after is not None
    assert {each.url: each.outstanding for each in after.seats} == {C: 0, A: 3}


def test_a_withdrawn_route_lets_nobody_in_and_counts_who_is_still_there() -> None:
    table, running = a_table(A), Request()
    table.enter(running, tenant_id=TENANT, project_id=PROJECT, name=NAME)

    table.change(ENDPOINT, None)

    assert table.enter(Request(), tenant_id=TENANT, project_id=PROJECT, name=NAME) is None
    assert (table.held(ENDPOINT), table.live(ENDPOINT)) == (None, 1)
    table.cut(ENDPOINT)
    assert (running.is_cut, table.streams_cut(ENDPOINT)) == (True, 1)
    table.leave(running, ENDPOINT)
    assert table.live(ENDPOINT) == 0


def test_an_entry_that_can_not_be_read_changes_nothing() -> None:
    table = a_table(A)

    table.change(ENDPOINT, b'{"half":')

    assert table.held(ENDPOINT) == a_route([A])


def test_names_are_those_of_one_project() -> None:
    table = a_table(A)

    assert table.find(tenant_id=TENANT, project_id=PROJECT, name=NAME) is not None
    assert table.find(tenant_id="ten-b", project_id=PROJECT, name=NAME) is None
    assert table.of_project(tenant_id=TENANT, project_id="prj-b") == []


def test_of_two_that_bear_a_name_the_later_one_serves_and_the_other_stays_when_it_goes() -> None:
    table = a_table(A)
    later = a_route([B], endpoint="ep-b").model_copy(update={"published_at_ms": 1_900_000_000_000})
    table.change("ep-b", later.model_dump_json().encode())

    assert table.find(tenant_id=TENANT, project_id=PROJECT, name=NAME) == later
    table.change("ep-b", None)
    assert table.find(tenant_id=TENANT, project_id=PROJECT, name=NAME) == a_route([A])


def test_a_renamed_endpoint_is_found_by_its_new_name_alone() -> None:
    table = a_table(A)
    table.change(ENDPOINT, a_route([A], name="renamed").model_dump_json().encode())

    assert table.find(tenant_id=TENANT, project_id=PROJECT, name=NAME) is None
    assert table.find(tenant_id=TENANT, project_id=PROJECT, name="renamed") is not None


def test_load_is_the_mean_and_the_most_of_the_interval() -> None:
    meter = LoadMeter(0)
    meter.began("ep-a", 0)
    meter.began("ep-a", 500)
    meter.ended("ep-a", 1000)

    (first,) = meter.report(2000)
    (second,) = meter.report(4000)

    assert (first.requests, first.concurrency_max, first.concurrency_avg_milli) == (2, 2, 1250)
    assert (second.requests, second.concurrency_max, second.concurrency_avg_milli) == (0, 1, 1000)


def test_a_clock_that_is_set_back_spoils_one_report_and_makes_none_negative() -> None:
    meter = LoadMeter(10_000)
    meter.began("ep-a", 10_000)

    (first,) = meter.report(2000)
    (second,) = meter.report(4000)

    assert (first.concurrency_max, first.concurrency_avg_milli) == (1, 0)
    assert (second.concurrency_max, second.concurrency_avg_milli) == (1, 1000)


def test_load_that_fell_to_zero_is_told_so_three_times_and_then_no_longer() -> None:
    clock = ManualClock(0)
    meter = LoadMeter(0)
    reporter = LoadReporter(meter, clock, instance="router-0", boot_id="b1")
    meter.began("ep-a", 0)
    meter.ended("ep-a", 1000)
    reports = []
    for _ in range(5):
        clock.advance(2000)
        reports.append(reporter.next_report())

    first, last, *repeats, none = reports
    assert first is not None
    assert last is not None
    assert json.loads(first.body)["endpoints"][0]["concurrency_avg_milli"] == 500
    assert json.loads(last.body)["endpoints"][0]["concurrency_max"] == 0
    assert (json.loads(last.body)["from_ms"], json.loads(last.body)["to_ms"]) == (2000, 4000)
    assert all(each is not None for each in repeats)
    assert none is None
    assert first.id != last.id


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 500)), max_size=50))
def test_the_mean_is_never_above_the_most(steps: list[tuple[bool, int]]) -> None:
    meter, now_ms, running = LoadMeter(0), 0, 0
    for begins, pause_ms in steps:
        now_ms += pause_ms
        if begins:
            meter.began("ep-a", now_ms)
            running += 1
        elif running:
            meter.ended("ep-a", now_ms)
            running -= 1

    for load in meter.report(now_ms + 1):
        assert 0 <= load.concurrency_avg_milli <= load.concurrency_max * 1000
        assert load.concurrency_max <= load.requests
    assert meter.in_flight("ep-a") == running


class Applied(dict[str, bytes]):
    """A table that a copy fills."""

    def change(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value


def some_copies(path: Path, clock: ManualClock) -> tuple[Copies, Applied, Applied]:
    routes, keys = Applied(), Applied()
    return (
        Copies(
            str(path), clock, {ROUTES: routes.change, KEYS: keys.change, QUOTAS: lambda _key, _value: None}, secret=b"s"
        ),
        routes,
        keys,
    )


def test_a_copy_gives_back_what_the_bus_had_told(tmp_path: Path) -> None:
    clock = ManualClock()
    copies, _, _ = some_copies(tmp_path / "tables.json", clock)
    copies.watcher(ROUTES)("ep-a", b"route")
    copies.watcher(KEYS)("key-a", b"key")
    copies.watcher(KEYS)("key-b", b"gone")
    copies.watcher(KEYS)("key-b", None)
    copies.save()

    again, routes, keys = some_copies(tmp_path / "tables.json", clock)

    assert again.load() == 2
    assert (routes, keys) == ({"ep-a": b"route"}, {"key-a": b"key"})
    assert stat.S_IMODE((tmp_path / "tables.json").stat().st_mode) == 0o600


def test_a_key_that_the_bus_says_deleted_is_dropped_before_it_has_told_all(tmp_path: Path) -> None:
    clock = ManualClock()
    copies, _, _ = some_copies(tmp_path / "tables.json", clock)
    for each in ("revoked", "kept"):
        copies.watcher(KEYS)(each, b"key")
    copies.save()
    again, _, keys = some_copies(tmp_path / "tables.json", clock)
    again.load()
    again.watcher(KEYS)("kept", b"key")
    again.watcher(KEYS)("revoked", None)

    again.settle()

    assert keys == {"kept": b"key"}


def test_a_stale_or_broken_copy_is_not_served_from(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "tables.json"
    copies, _, _ = some_copies(path, clock)
    copies.watcher(KEYS)("key-a", b"key")
    copies.save()
    clock.advance(STALE_MS + 1)

    assert some_copies(path, clock)[0].load() == 0
    for broken in (b"", b"[]", b'{"saved_at_ms": 5}', b"\xff"):
        path.write_bytes(broken)
        assert some_copies(path, clock)[0].load() == 0


def test_a_host_name_leads_to_the_endpoint_that_has_it_now() -> None:
    table, other = RouteTable(), "ep-b"

    def put(endpoint: str, hostname: str) -> None:
        route = a_route((A,), endpoint=endpoint, name=endpoint).model_copy(update={"hostname": hostname})
        table.change(endpoint, route.model_dump_json().encode())

    def led_to() -> dict[str, str]:
        return {hostname: target.entry.endpoint_id for hostname, target in table.by_host.items()}

    put(ENDPOINT, "api.acme.example")
    put(ENDPOINT, "new.acme.example")
    assert led_to() == {"new.acme.example": ENDPOINT}

    put(other, "new.acme.example")  # Before the table has heard that the first one left it.
    put(ENDPOINT, "new.acme.example")
    assert led_to() == {"new.acme.example": other}

    put(ENDPOINT, "")
    assert led_to() == {"new.acme.example": other}
    table.change(other, None)
    assert led_to() == {}
