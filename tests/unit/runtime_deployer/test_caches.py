"""What is told of a cache is what its newest list has, whatever order looks came in and whatever nobody saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.decision import Decision
from libs.common.events.caches import (
    CacheKind,
    CachePlace,
    Eviction,
    ModelEvicted,
    ModelHit,
    ModelReleased,
    ModelWarmed,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Internal
from libs.common.ids import EventId
from libs.common.reconciler import Delayed
from libs.common.store.port import Attention
from services.runtime_deployer.core import caches
from services.runtime_deployer.core.caches import Cache, CacheSeen, CacheUsed, Fetched, attention_of, key_of, plan
from services.runtime_deployer.core.observed import CacheListed

PLACE: Final = CachePlace(
    kind=CacheKind.NODE, platform_project="mr-acme-main", cluster="ep-a", name="node-1", path="/var/models"
)
KEY: Final = key_of(PLACE)
NOW_MS: Final = 1_800_000_000_000
SIZE_BYTES: Final = 10
Decide = Callable[[Cache, Envelope, int], Decision[Cache]]


def fetched(pod: str, digest: str, at_ms: int, models: Sequence[str], *, is_hit: bool = False) -> Fetched:
    listed = CacheListed(digest=digest, is_hit=is_hit, at_ms=at_ms, models=dict.fromkeys(models, SIZE_BYTES))
    return Fetched(pod=pod, bytes_fetched=0 if is_hit else SIZE_BYTES, listed=listed)


def used(endpoint_id: str, *fetches: Fetched, is_over: bool = False) -> CacheUsed:
    return CacheUsed(endpoint_id=endpoint_id, place=PLACE, fetches=fetches, is_over=is_over)


@dataclass
class Scene:
    """One cache, what it hears, and what everybody else makes of what it tells."""

    decide: Decide = caches.decide
    cache: Cache = field(default_factory=lambda: Cache(KEY))
    told: list[Event] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    kept_for: dict[str, str] = field(default_factory=dict)

    def hear(self, *news: Internal, now_ms: int = NOW_MS) -> list[Event]:
        before = len(self.told)
        for each in news:
            decision = self.decide(self.cache, Envelope(EventId("e"), each, KEY, now_ms), now_ms)
            self.cache = decision.state
            for event in decision.events:
                self._follow(event)
            self.told += decision.events
        return self.told[before:]

    def _follow(self, event: Event) -> None:
        match event:
            case ModelWarmed():
                self.there.add(event.model_digest)
                self.kept_for[event.model_digest] = event.endpoint_id
            case ModelHit() if event.kept_for:
                self.there.add(event.model_digest)
                self.kept_for[event.model_digest] = event.kept_for
            case ModelReleased():
                assert self.kept_for[event.model_digest] == event.endpoint_id
                self.kept_for[event.model_digest] = ""
            case ModelEvicted():
                assert event.model_digest in self.there, "it was not there"
                assert self.kept_for.pop(event.model_digest) == event.endpoint_id
                self.there.remove(event.model_digest)


@dataclass(frozen=True)
class History:
    """What became of a cache: reports of fetches in their order, and in which order looks at endpoints brought them."""

    reports: tuple[tuple[str, Fetched], ...]
    looks: tuple[str, ...]


@st.composite
def histories(draw: st.DrawFn) -> History:
    there: set[str] = set()
    reports: list[tuple[str, Fetched]] = []
    for number in range(draw(st.integers(1, 8))):
        digest, endpoint_id = draw(st.sampled_from("abcd")), draw(st.sampled_from(("ep-1", "ep-2", "ep-3")))
        is_hit = digest in there and draw(st.booleans())
        there = ({each for each in there if draw(st.booleans())} if not is_hit else there) | {digest}
        reports.append((endpoint_id, fetched(f"pod-{number}", digest, 100 + number, sorted(there), is_hit=is_hit)))
    return History(tuple(reports), tuple(draw(st.permutations([endpoint for endpoint, _ in reports]))))


def live(history: History, decide: Decide = caches.decide) -> Scene:
    """Each look brings an endpoint's reports so far; one look too many changes nothing."""
    scene, seen = Scene(decide), dict.fromkeys(history.looks, 0)
    for endpoint_id in history.looks:
        seen[endpoint_id] += 1
        news = used(
            endpoint_id, *[each for whose, each in history.reports if whose == endpoint_id][: seen[endpoint_id]]
        )
        scene.hear(news)
        assert scene.hear(news) == [], "told twice"
    return scene


def check(history: History, decide: Decide = caches.decide) -> None:
    """What was told adds up to the newest list, and to what the record says."""
    scene = live(history, decide)
    _, last = history.reports[-1]
    assert scene.there == set(last.listed.models)
    assert scene.kept_for == {each.digest: each.endpoint_id for each in scene.cache.models}
    assert scene.cache.hits + scene.cache.misses == len(history.reports)


@given(histories())
def test_what_is_told_adds_up_to_what_the_newest_list_has(history: History) -> None:
    check(history)


def _trusts_any_list(cache: Cache, envelope: Envelope, now_ms: int) -> Decision[Cache]:
    return caches.decide(replace(cache, listed_ms=0), envelope, now_ms)


def _forgets_who_was_counted(cache: Cache, envelope: Envelope, now_ms: int) -> Decision[Cache]:
    return caches.decide(replace(cache, users=()), envelope, now_ms)


@pytest.mark.parametrize("planted", [_trusts_any_list, _forgets_who_was_counted])
def test_a_planted_fault_is_seen(planted: Decide) -> None:
    late = History((("ep-1", fetched("p1", "a", 1, "a")), ("ep-2", fetched("p2", "b", 2, "b"))), looks=("ep-2", "ep-1"))

    check(late)
    with pytest.raises(AssertionError):
        check(late, planted)


def test_a_model_is_kept_for_who_brought_it_then_for_none_then_for_who_hits_it() -> None:
    scene = Scene()
    scene.hear(used("ep-1", fetched("p1", "a", 1, "a")))
    other = used("ep-2", fetched("p2", "a", 2, "a", is_hit=True))
    scene.hear(other)
    assert scene.kept_for == {"a": "ep-1"}

    (released,) = scene.hear(used("ep-1", is_over=True))
    assert isinstance(released, ModelReleased)
    assert scene.kept_for == {"a": ""}
    scene.hear(used("ep-3", fetched("p3", "a", 3, "a", is_hit=True)))
    assert scene.kept_for == {"a": "ep-3"}
    assert [each.endpoint_id for each in scene.cache.users] == ["ep-2", "ep-3"]


def test_a_list_that_left_something_out_evicts_nothing() -> None:
    scene = Scene()
    scene.hear(used("ep-1", fetched("p1", "a", 1, "a")))
    partial = fetched("p2", "b", 2, "b")
    partial = partial.model_copy(update={"listed": partial.listed.model_copy(update={"left_out": 1})})

    scene.hear(used("ep-1", partial))

    assert scene.there == {"a", "b"}


def test_what_was_on_a_node_goes_with_it_and_is_told_once() -> None:
    scene = Scene()
    scene.hear(used("ep-1", fetched("p1", "a", 1, "a")))
    assert scene.hear(CacheSeen(is_there=True, created_ms=NOW_MS - 5)) == []

    (gone,) = scene.hear(CacheSeen(is_there=False))

    assert isinstance(gone, ModelEvicted)
    assert gone.reason is Eviction.GONE
    assert attention_of(scene.cache) is Attention.NONE
    assert scene.hear(CacheSeen(is_there=False)) == []


def test_a_newer_node_by_the_same_name_has_nothing_and_may_be_filled_again() -> None:
    scene = Scene()
    scene.hear(used("ep-1", fetched("p1", "a", 1, "a")))

    assert len(scene.hear(CacheSeen(is_there=True, created_ms=NOW_MS + 1))) == 1
    assert attention_of(scene.cache) is Attention.WATCH
    scene.hear(used("ep-1", fetched("p9", "a", 900, "a")), now_ms=NOW_MS + 2)
    assert scene.there == {"a"}


def test_a_node_is_labelled_by_what_it_has_and_no_other_label_of_it_is_touched() -> None:
    scene = Scene()
    scene.hear(used("ep-1", fetched("p1", "a", 1, "a")))
    old = CacheSeen(is_there=True, labels=("models.millrace.dev/b",))

    (label,) = plan(scene.cache, old, NOW_MS)

    assert label.labels == {"models.millrace.dev/a": "true", "models.millrace.dev/b": None}
    assert plan(scene.cache, CacheSeen(is_there=True, labels=("models.millrace.dev/a",)), NOW_MS) == ()
    assert plan(scene.cache, CacheSeen(is_there=False), NOW_MS) == ()


def test_that_a_cluster_does_not_answer_ends_nothing() -> None:
    scene = Scene()
    scene.hear(used("ep-1", fetched("p1", "a", 1, "a")))

    assert scene.hear(Delayed(code="unavailable", message="no answer")) == []
    assert scene.there == {"a"}
    assert scene.cache.delay == "unavailable: no answer"
