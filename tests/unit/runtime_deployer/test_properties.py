"""Whatever the order and however often: the same end, and each fact told once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from libs.common.events.envelope import Envelope
from services.runtime_deployer.core.lifecycle import LIFECYCLE, Known, Stage, attention_of, known
from services.runtime_deployer.core.observed import PodSeen
from services.runtime_deployer.core.state import Runtime
from tests.unit.runtime_deployer.a_runtime import (
    Scene,
    cluster_ready,
    deletion_requested,
    downloading,
    failed,
    gpu_ready,
    loaded,
    loading,
    pulling,
    requested,
    scale_decided,
    warm,
    withdrawn,
)

CODEC = TypeAdapter(Runtime)
BEFORE = (requested(), cluster_ready(), gpu_ready(), scale_decided(2, sequence=1), scale_decided(3, sequence=2))
END = (deletion_requested(), withdrawn(), failed())
PODS = st.lists(
    st.sampled_from([pulling(), downloading(), loading(), loaded(), warm(), warm("p2", ip="127.64.0.10")]),
    max_size=3,
    unique_by=lambda each: each.name,
)
REPLAYS = st.lists(st.integers(0, 99), min_size=0, max_size=20)


def in_any_order(base: tuple[Envelope, ...]) -> st.SearchStrategy[list[Envelope]]:
    """All of `base` in any order, with repeats."""
    return st.lists(st.sampled_from(base), max_size=6).flatmap(lambda more: st.permutations([*base, *more]))


@given(envelopes=in_any_order(BEFORE), looks=st.lists(PODS, max_size=8), places=REPLAYS)
@settings(max_examples=100, deadline=None)
def test_any_order_of_a_creation_ends_serving_with_each_step_told_once(
    envelopes: list[Envelope], looks: list[list[PodSeen]], places: list[int]
) -> None:
    scene = Scene()
    for index, envelope in enumerate(envelopes):
        scene.hear(envelope)
        if attention_of(scene.runtime) and places and looks:
            scene.see(*looks[places[index % len(places)] % len(looks)])

    scene.see(warm("p1"), warm("p2", ip="127.64.0.10"), warm("p3", ip="127.64.0.11"))

    steps = Counter(each for each in scene.kinds if each in STEPS)
    assert scene.stage is Stage.SERVING
    assert steps == dict.fromkeys(STEPS, 1)
    assert [each for each in scene.kinds if each in STEPS] == list(STEPS)
    assert scene.runtime.replicas_told.desired == 3
    assert len(scene.runtime.replicas_told.replicas) == 3


@given(envelopes=in_any_order(BEFORE + END), looks=st.lists(PODS, max_size=8), places=REPLAYS)
@settings(max_examples=100, deadline=None)
def test_any_order_with_a_deletion_ends_removed_once_and_only_with_nothing_left(
    envelopes: list[Envelope], looks: list[list[PodSeen]], places: list[int]
) -> None:
    scene = Scene()
    for index, envelope in enumerate(envelopes):
        before = len(scene.kinds)
        scene.hear(envelope)
        assert not scene.runtime.intended or "runtime.removed" not in scene.kinds[before:]
        if attention_of(scene.runtime) and places and looks:
            scene.see(*looks[places[index % len(places)] % len(looks)])

    if scene.stage is not Stage.REMOVED:
        scene.see_nothing()

    assert scene.stage is Stage.REMOVED
    assert scene.runtime.replicas_told.desired == 0
    assert scene.runtime.replicas_told.replicas == ()
    removals = [g for kind, g in zip(scene.kinds, scene.generations, strict=True) if kind == "runtime.removed"]
    assert removals[-1] == 2
    assert len(removals) == len(set(removals))


@given(envelopes=st.lists(st.sampled_from(BEFORE + END), max_size=12), pods=PODS)
@settings(max_examples=80, deadline=None)
def test_hearing_and_seeing_the_same_again_tells_nothing_and_changes_nothing(
    envelopes: list[Envelope], pods: list[PodSeen]
) -> None:
    scene = Scene().hear(*envelopes).see(*pods)
    before, told = scene.runtime, len(scene.events)

    scene.hear(*envelopes).see(*pods)

    assert scene.runtime == before
    assert len(scene.events) == told


@given(envelopes=st.lists(st.sampled_from(BEFORE + END), max_size=12), pods=PODS)
@settings(max_examples=80, deadline=None)
def test_a_state_survives_being_stored(envelopes: list[Envelope], pods: list[PodSeen]) -> None:
    runtime = Scene().hear(*envelopes).see(*pods).runtime

    stored = CODEC.dump_json(runtime)

    assert CODEC.validate_json(stored) == runtime
    assert CODEC.dump_json(CODEC.validate_json(stored)) == stored


@given(facts=st.frozensets(st.sampled_from(Known)))
def test_every_set_of_facts_has_a_stage(facts: frozenset[Known]) -> None:
    assert LIFECYCLE.stage_of(facts) in Stage


def test_what_is_known_of_a_new_runtime_is_nothing() -> None:
    assert known(Scene().runtime) == frozenset()


STEPS = ("runtime.image_pulled", "runtime.model_downloaded", "runtime.model_loaded", "runtime.cache_warmed")
