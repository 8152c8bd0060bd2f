"""A route: put up when asked for and warm, published when seen, withdrawn when seen gone and idle; in any order."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.decision import Decision
from libs.common.events.envelope import Envelope
from libs.common.events.route import RoutePublished, RouteWithdrawn
from libs.common.events.tables import RouteEntry
from libs.common.runner import Woke
from services.router.core.decide import FAILED_DRAIN_MS, REPUT_MS, decide
from services.router.core.lifecycle import ROUTE, RouteStage
from services.router.core.plan import CutStreams, plan
from services.router.core.state import Route, RouteSeen
from tests.unit.router.heard import (
    DRAIN_MS,
    NOW,
    cache_warmed,
    deletion_requested,
    envelope,
    failed,
    paused,
    replicas_changed,
    requested,
    seen,
)
from tests.unit.router.scene import ENDPOINT

URL = "http://router/v1"
A, B = "http://127.64.0.1:8000", "http://127.64.0.2:8000"


def step(route: Route, event: Envelope, now_ms: int = NOW) -> Decision[Route]:
    return decide(route, event, now_ms, url=URL)


def after(*events: Envelope) -> Route:
    route = Route(ENDPOINT)
    for each in events:
        route = step(route, each).state
    return route


def published() -> Route:
    route = after(requested(), cache_warmed(A))
    return step(route, seen(route)).state


def entry_in(decision: Decision[Route]) -> RouteEntry | None:
    (put,) = decision.puts
    assert (put.bucket, put.key) == ("routes", ENDPOINT)
    return RouteEntry.model_validate_json(put.value) if put.value is not None else None


@pytest.mark.parametrize("order", list(permutations((requested(), cache_warmed(A)))))
def test_a_route_is_put_when_the_endpoint_was_asked_for_and_is_warm(order: tuple[Envelope, ...]) -> None:
    first = step(Route(ENDPOINT), order[0])
    second = step(first.state, order[1])

    assert first.puts == ()
    entry = entry_in(second)
    assert entry is not None
    assert (entry.name, entry.model, entry.generation) == ("chatty", "millrace/ngram-1", 1)
    assert [each.url for each in entry.replicas] == [A]
    assert second.events == ()
    assert second.wake_at_ms == NOW + REPUT_MS


def test_a_route_says_what_a_stream_owes_that_is_cut_short_and_how_its_tenant_lives() -> None:
    asked, warm = requested(interrupted="generated"), cache_warmed(A)

    entry = entry_in(step(after(asked), warm))

    assert entry is not None
    assert (entry.interrupted, entry.tenancy) == ("generated", "private_nodes")


def test_published_is_told_only_when_the_table_was_seen_to_hold_the_route() -> None:
    route = after(requested(), cache_warmed(A))

    unseen = step(route, seen(route, held=False))
    held = step(unseen.state, seen(route, mark="2"))

    assert unseen.events == ()
    assert held.events == (RoutePublished(url=URL),)
    assert (held.generation, held.state.stage, held.wake_at_ms) == (1, RouteStage.PUBLISHED, None)


def test_published_is_told_once() -> None:
    route = published()

    assert step(route, seen(route, mark="2")).events == ()


def test_a_put_that_does_not_arrive_is_said_again() -> None:
    route = after(requested(), cache_warmed(A))

    woken = step(route, envelope(Woke(due_ms=NOW), sequence=0), NOW + REPUT_MS)

    assert entry_in(woken) == route.entry
    assert woken.wake_at_ms == NOW + 2 * REPUT_MS


def test_a_table_that_lost_a_published_route_is_told_again() -> None:
    route = published()

    assert entry_in(step(route, seen(route, held=False, mark="2"))) == route.entry


def test_replicas_follow_the_highest_sequence() -> None:
    route = published()
    newer = step(route, replicas_changed(A, B, sequence=8))
    older = step(newer.state, replicas_changed(sequence=7))

    entry = entry_in(newer)
    assert entry is not None
    assert [each.url for each in entry.replicas] == [A, B]
    assert entry.published_at_ms == NOW
    assert older.puts == ()


def test_an_endpoint_without_replicas_keeps_its_route_and_refuses_by_itself() -> None:
    entry = entry_in(step(published(), replicas_changed(sequence=8)))

    assert entry is not None
    assert entry.replicas == ()


def test_a_withdrawn_route_is_told_gone_only_when_unseen_and_idle() -> None:
    draining = step(published(), deletion_requested())
    assert entry_in(draining) is None
    route = draining.state
    assert route.drain_deadline_ms == NOW + DRAIN_MS

    busy = step(route, seen(route, held=False))
    gone = step(route, seen(route, held=False, is_idle=True, streams_cut=2, mark="2"))

    assert busy.events == ()
    assert gone.events == (RouteWithdrawn(streams_cut=2),)
    assert (gone.generation, gone.state.stage) == (2, RouteStage.WITHDRAWN)


def test_a_look_made_before_the_delete_says_nothing_about_it() -> None:
    route = published()
    stale = seen(route, held=False)

    assert step(step(route, deletion_requested()).state, stale).events == ()


def test_the_deadline_runs_from_the_first_word_of_the_delete() -> None:
    route = step(published(), deletion_requested()).state

    again = step(route, deletion_requested(sequence=10), NOW + 5000)

    assert again.state.drain_deadline_ms == NOW + DRAIN_MS


@pytest.mark.parametrize("end", [deletion_requested(), failed()])
def test_an_endpoint_that_was_never_routed_answers_too(end: Envelope) -> None:
    route = after(end)
    gone = step(route, seen(route, held=False, is_idle=True))

    assert gone.events == (RouteWithdrawn(streams_cut=0),)


def test_a_failure_withdraws_like_a_delete() -> None:
    draining = step(published(), failed())

    assert entry_in(draining) is None
    assert draining.state.drain_deadline_ms == NOW + FAILED_DRAIN_MS


def test_a_delete_after_a_failure_is_answered_anew_with_its_own_generation() -> None:
    route = after(requested(), failed())
    route = step(route, seen(route, held=False, is_idle=True)).state

    route = step(route, deletion_requested()).state
    gone = step(route, seen(route, held=False, is_idle=True, mark="2"))

    assert (gone.generation, gone.events) == (2, (RouteWithdrawn(streams_cut=0),))


def test_what_is_older_than_the_delete_does_not_bring_a_route_back() -> None:
    route = after(deletion_requested(), requested(), cache_warmed(A), replicas_changed(A, B))

    assert route.stage is RouteStage.DRAINING
    assert route.entry is None


def test_an_endpoint_asked_for_anew_after_a_failure_is_routed_again() -> None:
    route = after(requested(), cache_warmed(A), failed())
    route = step(route, seen(route, held=False, is_idle=True)).state
    waiting = step(route, requested(generation=2, sequence=20)).state
    route = step(waiting, cache_warmed(B, generation=2, sequence=21)).state

    assert waiting.stage is RouteStage.WAITING
    assert route.stage is RouteStage.PUBLISHING
    assert route.entry is not None
    assert route.entry.generation == 2


NEWEST = (requested(generation=3, sequence=12, model="other"), cache_warmed(B, generation=3, sequence=13))
HEARD = st.lists(
    st.sampled_from(
        [
            requested(),
            cache_warmed(A),
            replicas_changed(A, B),
            replicas_changed(sequence=6),
            paused(),
            failed(generation=2),
            *NEWEST,
            deletion_requested(generation=4, sequence=14),
        ]
    ),
    max_size=16,
)


@given(events=HEARD, newest=st.permutations(NEWEST))
def test_order_and_repeats_do_not_matter_once_the_newest_was_heard(
    events: list[Envelope], newest: list[Envelope]
) -> None:
    once = {each.id: each for each in (*events, *newest)}.values()

    there, straight = after(*events, *newest), after(*sorted(once, key=lambda each: each.sequence))

    assert there.stage is straight.stage
    assert (there.replicas, there.entry, there.generation) == (straight.replicas, straight.entry, straight.generation)


def look(*, held: bool = False, is_idle: bool = False) -> RouteSeen:
    found = seen(published(), held=held, is_idle=is_idle).data
    assert isinstance(found, RouteSeen)
    return found


def test_streams_are_cut_at_the_deadline_and_not_before() -> None:
    route = step(published(), deletion_requested()).state
    deadline_ms = NOW + DRAIN_MS

    assert plan(route, look(), deadline_ms - 1) == ()
    assert plan(route, look(), deadline_ms) == (CutStreams(ENDPOINT),)
    assert plan(route, look(is_idle=True), deadline_ms) == ()
    assert plan(route, look(held=True), deadline_ms) == ()
    assert plan(published(), look(), deadline_ms) == ()


def test_the_readme_shows_the_lifecycle_as_it_is() -> None:
    readme = (Path(__file__).parents[3] / "services" / "router" / "README.md").read_text()
    (picture,) = re.findall(r"```mermaid\n(.*?)\n```", readme, re.DOTALL)

    assert picture == ROUTE.mermaid()
