"""Adapters: a replica takes traffic when it has those that clients know of, and an engine that restarts has none."""

from __future__ import annotations

from libs.common.events.endpoint import Adapter
from libs.common.events.envelope import Envelope
from libs.common.events.runtime import ReplicasChanged, RuntimeFailed
from libs.common.reconciler import Refused
from services.runtime_deployer.core.adapters import UNLOAD_AFTER_MS, Change
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.observed import AdapterSeen, PodSeen
from services.runtime_deployer.core.plan import ChangeAdapter, plan
from services.runtime_deployer.core.pod import recipe_of
from tests.unit.runtime_deployer.a_runtime import (
    ENDPOINT,
    MODEL,
    VLLM,
    Scene,
    a_placement,
    a_spec,
    gpu_ready,
    requested,
    told,
    warm,
)
from tests.unit.runtime_deployer.test_desire import facts_in

TONE = Adapter(name="tone", source="acme/tone-lora", rank=16)
LEGAL = Adapter(name="legal", source="acme/legal-lora", rank=8)
WARMED = "runtime.cache_warmed"


def asked(*adapters: Adapter, generation: int = 1) -> Envelope:
    spec = a_spec().model_copy(update={"adapters": adapters})
    return requested(generation=generation, sequence=10 * generation, spec=spec)


def having(pod: PodSeen, *adapters: Adapter) -> PodSeen:
    return pod.model_copy(update={"adapters": tuple(AdapterSeen(name=e.name, source=e.source) for e in adapters)})


def a_tuned_scene() -> Scene:
    return Scene().hear(asked(TONE), gpu_ready()).see(having(warm("a"), TONE), having(warm("b"), TONE))


def changes_in(scene: Scene, *pods: PodSeen) -> list[tuple[str, Change]]:
    planned = plan(scene.runtime, scene.look(*pods), scene.now_ms)
    return [(each.pod, each.change) for each in planned if isinstance(each, ChangeAdapter)]


def routed(scene: Scene) -> dict[str, tuple[str, ...]]:
    changed = scene.last(ReplicasChanged)
    assert isinstance(changed, ReplicasChanged)
    return {each.name: each.adapters for each in changed.replicas}


def test_an_endpoint_is_warm_when_every_replica_that_serves_has_every_adapter() -> None:
    scene = Scene().hear(asked(TONE), gpu_ready()).see(warm("a"), having(warm("b"), TONE))
    assert WARMED not in facts_in(scene, 1)

    scene.see(having(warm("a"), TONE), having(warm("b"), TONE))

    assert WARMED in facts_in(scene, 1)
    assert routed(scene) == {"a": ("tone",), "b": ("tone",)}


def test_each_replica_is_told_to_load_what_it_lacks() -> None:
    scene = Scene().hear(asked(TONE, LEGAL), gpu_ready())

    assert changes_in(scene, warm("a"), having(warm("b"), LEGAL)) == [
        ("a", Change("legal", LEGAL.source)),
        ("a", Change("tone", TONE.source)),
        ("b", Change("tone", TONE.source)),
    ]


def test_a_restarted_engine_takes_no_traffic_before_it_has_its_adapters_again() -> None:
    scene = a_tuned_scene()

    scene.see(warm("a", restarts=1), having(warm("b"), TONE))

    assert routed(scene) == {"b": ("tone",)}
    assert changes_in(scene, warm("a", restarts=1)) == [("a", Change("tone", TONE.source))]


def test_a_replica_goes_on_serving_while_it_loads_another_adapter() -> None:
    scene = a_tuned_scene().hear(asked(TONE, LEGAL, generation=2))

    scene.see(having(warm("a"), TONE), having(warm("b"), TONE, LEGAL))

    assert routed(scene) == {"a": ("tone",), "b": ("legal", "tone")}
    assert WARMED not in facts_in(scene, 2)
    scene.see(having(warm("a"), TONE, LEGAL), having(warm("b"), TONE, LEGAL))
    assert WARMED in facts_in(scene, 2)


def test_an_adapter_that_is_no_longer_wanted_is_not_offered_at_once_and_let_go_when_routers_have_heard() -> None:
    scene = a_tuned_scene().hear(asked(generation=2)).see(having(warm("a"), TONE), having(warm("b"), TONE))

    assert routed(scene) == {"a": (), "b": ()}
    assert changes_in(scene, having(warm("a"), TONE)) == []
    scene.now_ms += UNLOAD_AFTER_MS
    assert changes_in(scene, having(warm("a"), TONE)) == [("a", Change("tone"))]


def test_an_adapter_of_the_same_name_from_elsewhere_is_let_go_and_loaded_anew() -> None:
    other = TONE.model_copy(update={"source": "acme/tone-lora-2"})
    scene = a_tuned_scene().hear(asked(other, generation=2)).see(having(warm("a"), TONE))

    assert routed(scene) == {"a": ()}
    assert changes_in(scene, having(warm("a"), TONE)) == [("a", Change("tone")), ("a", Change("tone", other.source))]


def test_an_adapter_that_the_engine_refuses_fails_the_update_with_that_reason() -> None:
    scene = a_tuned_scene().hear(asked(TONE, LEGAL, generation=2)).see(having(warm("a"), TONE))

    scene.hear(told(Refused(action="ChangeAdapter", code="adapter_refused", message="no adapter found"), generation=2))

    failed = scene.last(RuntimeFailed)
    assert isinstance(failed, RuntimeFailed)
    assert (failed.reason, scene.stage) == ("AdapterRefused", Stage.FAILED)


def test_without_room_for_adapters_the_recipe_is_what_it_always_was() -> None:
    before = recipe_of(ENDPOINT, a_placement(), MODEL, VLLM)
    with_room = a_placement().model_copy(update={"adapters_max": 8, "adapter_rank_max": 64})

    assert recipe_of(ENDPOINT, with_room, MODEL, VLLM) != before
    assert recipe_of(ENDPOINT, a_placement().model_copy(update={"adapter_rank_max": 64}), MODEL, VLLM) == before
