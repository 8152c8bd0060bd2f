"""A route follows the newest generation: updates, rollbacks, pauses, resumes, repairs and deletions."""

from __future__ import annotations

from itertools import permutations

import pytest

from libs.common.events.endpoint import Limits
from libs.common.events.envelope import Envelope
from libs.common.events.route import RoutePublished, RouteWithdrawn
from libs.common.events.tables import RouteEntry
from services.router.core.lifecycle import RouteStage
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
from tests.unit.router.test_route import A, B, after, entry_in, published, step

OTHER = "millrace/ngram-2"


def hear(route: Route, *events: Envelope) -> Route:
    for each in events:
        route = step(route, each).state
    return route


def served_by(route: Route) -> RouteEntry:
    assert route.entry is not None
    return route.entry


def is_at(route: Route, stage: RouteStage) -> bool:
    """Whether the route stands there."""
    return route.stage is stage


def withdrawn(route: Route) -> Route:
    """The route after its table was seen without it, and idle."""
    return step(route, seen(route, is_idle=True, mark="gone")).state


def test_requests_are_held_while_the_only_replica_is_replaced_and_no_longer_than_that() -> None:
    route = hear(published(), replicas_changed(generation=2, sequence=11, warmed=1, replacing=True))
    assert served_by(route).keeps_waiting

    route = hear(route, requested(generation=2, sequence=10, model=OTHER), cache_warmed(B, generation=2, sequence=12))

    assert not served_by(route).keeps_waiting


def test_nothing_is_held_for_an_endpoint_that_pauses() -> None:
    route = hear(published(), replicas_changed(generation=2, sequence=11, warmed=1, replacing=True))

    assert not served_by(hear(route, paused(generation=3))).keeps_waiting


def test_while_an_update_loads_the_route_before_stays_with_the_replicas_of_the_moment() -> None:
    asked = step(published(), requested(generation=2, sequence=10, model=OTHER))
    route = hear(asked.state, replicas_changed(B, sequence=11, generation=2, warmed=1, model="millrace/ngram-1"))

    assert asked.puts == ()
    assert is_at(route, RouteStage.PUBLISHED)
    entry = served_by(route)
    assert (entry.generation, entry.model) == (1, "millrace/ngram-1")
    assert [(each.url, each.model) for each in entry.replicas] == [(B, "millrace/ngram-1")]


def test_an_update_is_published_with_its_generation_when_the_runtime_is_warm_for_it() -> None:
    route = hear(published(), requested(generation=2, sequence=10, model=OTHER))

    warm = step(route, cache_warmed(B, generation=2, sequence=11))
    seen_held = step(warm.state, seen(warm.state, mark="2"))

    entry = entry_in(warm)
    assert entry is not None
    assert (entry.generation, entry.model) == (2, OTHER)
    assert (seen_held.events, seen_held.generation) == ((RoutePublished(url="http://router/v1"),), 2)


def test_a_look_made_before_the_update_came_into_effect_does_not_publish_it() -> None:
    route = hear(published(), requested(generation=2, sequence=10, model=OTHER))
    stale = seen(route, mark="stale")

    route = hear(route, cache_warmed(B, generation=2, sequence=11))

    assert step(route, stale).events == ()


def test_a_table_that_still_holds_the_generation_before_does_not_publish_the_next() -> None:
    before = served_by(published())
    route = hear(published(), requested(generation=2, sequence=10), cache_warmed(B, generation=2, sequence=11))
    stale = RouteSeen(stage=route.stage, generation=route.generation, held=before)

    assert step(route, envelope(stale, sequence=0)).events == ()


def test_a_change_of_limits_comes_into_effect_with_the_deployers_next_word() -> None:
    limits = Limits(requests_per_minute=7)
    route = hear(published(), requested(generation=2, sequence=10, limits=limits))

    decision = step(route, replicas_changed(A, generation=2, sequence=11, warmed=2))

    entry = entry_in(decision)
    assert entry is not None
    assert (entry.generation, entry.limits) == (2, limits)
    assert is_at(decision.state, RouteStage.PUBLISHING)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_an_update_and_its_warmth_may_come_in_any_order(order: tuple[int, ...]) -> None:
    news = [
        requested(),
        cache_warmed(A),
        requested(generation=2, sequence=10, model=OTHER),
        cache_warmed(B, generation=2, sequence=11),
    ]
    route = after(*(news[each] for each in order))

    assert is_at(route, RouteStage.PUBLISHING)
    assert (served_by(route).generation, served_by(route).model) == (2, OTHER)
    assert [each.url for each in served_by(route).replicas] == [B]


def test_a_rollback_is_published_anew_and_the_broken_update_never() -> None:
    route = hear(published(), requested(generation=2, sequence=10, model=OTHER), requested(generation=3, sequence=12))
    assert served_by(route).generation == 1

    route = hear(route, cache_warmed(A, generation=3, sequence=13))
    told = step(route, seen(route, mark="3"))

    assert (told.generation, len(told.events)) == (3, 1)
    assert served_by(route).model == "millrace/ngram-1"


def test_warmth_for_an_update_that_was_overtaken_changes_nothing() -> None:
    route = hear(published(), requested(generation=2, sequence=10, model=OTHER), requested(generation=3, sequence=12))

    route = hear(route, cache_warmed(B, generation=2, sequence=13))

    assert (served_by(route).generation, [each.url for each in served_by(route).replicas]) == (1, [B])


def test_a_paused_endpoint_is_known_without_replicas_and_told_withdrawn_when_idle() -> None:
    draining = step(published(), paused())
    entry = entry_in(draining)
    assert entry is not None
    assert (entry.paused, entry.replicas) == (True, ())

    busy = step(draining.state, seen(draining.state, is_idle=False))
    gone = step(draining.state, seen(draining.state, is_idle=True))

    assert busy.events == ()
    assert (gone.generation, gone.events) == (2, (RouteWithdrawn(streams_cut=0),))
    assert is_at(gone.state, RouteStage.WITHDRAWN)
    assert gone.state.entry == entry


def test_a_table_that_still_lets_in_is_not_withdrawn_from_a_paused_endpoint() -> None:
    before = served_by(published())
    route = hear(published(), paused())
    stale = RouteSeen(stage=route.stage, generation=route.generation, held=before, is_idle=True)

    decision = step(route, envelope(stale, sequence=0))

    assert decision.events == ()
    assert plan(route, stale, NOW + DRAIN_MS) == ()


def test_streams_of_a_paused_endpoint_are_cut_at_its_deadline_and_not_before() -> None:
    route = hear(published(), paused())
    busy = RouteSeen(stage=route.stage, generation=route.generation, held=route.entry)

    assert plan(route, busy, NOW + DRAIN_MS - 1) == ()
    assert plan(route, busy, NOW + DRAIN_MS) == (CutStreams(ENDPOINT),)


def test_a_later_end_may_shorten_the_deadline_and_never_lengthen_it() -> None:
    route = hear(published(), paused())

    longer = step(route, deletion_requested(generation=3, sequence=9, drain_ms=DRAIN_MS * 3), NOW + 1).state
    shorter = step(route, deletion_requested(generation=3, sequence=9, drain_ms=1000), NOW + 1).state

    assert longer.drain_deadline_ms == NOW + DRAIN_MS
    assert shorter.drain_deadline_ms == NOW + 1001


def test_a_resume_is_found_at_once_and_published_when_something_is_warm_for_it() -> None:
    route = withdrawn(hear(published(), paused(), replicas_changed(generation=2, sequence=9, warmed=1)))

    resumed = step(route, requested(generation=3, sequence=10))
    entry = entry_in(resumed)
    assert entry is not None
    assert (entry.paused, entry.replicas) == (False, ())
    assert is_at(resumed.state, RouteStage.WAITING)
    assert resumed.events == ()

    route = hear(resumed.state, cache_warmed(B, generation=3, sequence=11))
    told = step(route, seen(route, mark="3"))

    assert (told.generation, told.events) == (3, (RoutePublished(url="http://router/v1"),))


def test_warmth_from_before_a_pause_does_not_publish_its_resume() -> None:
    route = hear(published(), paused(), requested(generation=3, sequence=10))

    late = step(route, replicas_changed(A, generation=1, sequence=9, warmed=1))

    assert is_at(late.state, RouteStage.WAITING)
    assert late.events == ()


def test_a_resume_during_the_drain_is_served_on_and_published_anew() -> None:
    route = hear(published(), paused(), requested(generation=3, sequence=10))
    assert route.drain_deadline_ms is None
    assert [each.url for each in served_by(route).replicas] == [A]

    route = hear(route, cache_warmed(A, generation=3, sequence=11))

    assert is_at(route, RouteStage.PUBLISHING)
    assert served_by(route).generation == 3


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_pause_that_is_overtaken_by_its_resume_takes_nothing_away(order: tuple[int, ...]) -> None:
    news = [paused(), requested(generation=3, sequence=10), cache_warmed(A, generation=3, sequence=11)]

    route = hear(published(), *(news[each] for each in order))

    assert is_at(route, RouteStage.PUBLISHING)
    assert (served_by(route).generation, served_by(route).paused) == (3, False)


def test_a_repair_is_published_anew_although_the_failure_is_heard_last() -> None:
    route = hear(published(), requested(generation=2, sequence=10), cache_warmed(A, generation=2, sequence=11))
    route = step(route, seen(route, mark="2")).state

    route = hear(route, failed(generation=1, sequence=9))

    assert is_at(route, RouteStage.PUBLISHED)


def test_an_endpoint_that_was_paused_before_it_was_ever_warm_is_told_so_too() -> None:
    entry = entry_in(step(after(requested()), paused()))

    assert entry is not None
    assert (entry.paused, entry.name) == (True, "chatty")


def test_a_deletion_of_a_paused_endpoint_takes_it_out_of_the_table() -> None:
    route = withdrawn(hear(published(), paused()))

    deleted = step(route, deletion_requested(generation=3, sequence=9))
    gone = step(deleted.state, seen(deleted.state, held=False, is_idle=True, mark="3"))

    assert entry_in(deleted) is None
    assert (gone.generation, gone.events) == (3, (RouteWithdrawn(streams_cut=0),))


def test_a_failure_after_a_pause_takes_it_out_of_the_table() -> None:
    assert entry_in(step(hear(published(), paused()), failed(generation=3, sequence=9))) is None


def test_a_deletion_is_for_ever() -> None:
    route = hear(published(), deletion_requested(generation=2))

    route = hear(route, requested(generation=3, sequence=20), cache_warmed(A, generation=3, sequence=21))

    assert is_at(route, RouteStage.DRAINING)
    assert route.entry is None


def test_a_withdrawal_is_answered_anew_for_each_end() -> None:
    route = withdrawn(hear(published(), paused()))
    route = hear(route, requested(generation=3, sequence=10), cache_warmed(A, generation=3, sequence=11))
    route = hear(route, paused(generation=4, sequence=12))

    gone = step(route, seen(route, is_idle=True, mark="4"))

    assert (gone.generation, gone.events) == (4, (RouteWithdrawn(streams_cut=0),))


def test_a_route_that_the_bucket_lost_is_put_again_once_and_stays_published() -> None:
    route = published()
    held = served_by(route)
    missing = RouteSeen(stage=route.stage, generation=route.generation, held=held, is_lost=True)

    again = step(route, envelope(missing, mark="lost"))
    found = step(again.state, envelope(missing.model_copy(update={"is_lost": False}), mark="found"))

    assert entry_in(again) == held
    assert (again.events, found.puts, found.events) == ((), (), ())
    assert is_at(found.state, RouteStage.PUBLISHED)


def test_a_host_name_comes_into_effect_with_its_generation_and_is_published_anew_at_its_own_address() -> None:
    route = hear(published(), requested(generation=2, sequence=10, hostname="api.acme.example"))
    assert served_by(route).hostname == ""

    route = hear(route, replicas_changed(A, generation=2, sequence=11, warmed=2))
    assert (served_by(route).hostname, route.stage) == ("api.acme.example", RouteStage.PUBLISHING)
    decision = step(route, seen(route, is_met_outside=True, mark="named"))

    (told,) = [each for each in decision.events if isinstance(each, RoutePublished)]
    assert told.url == "http://api.acme.example/v1"
