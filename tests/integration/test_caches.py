"""Caches of models on a twin: a replica that finds its weights skips the download, and all of it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from libs.common.events.caches import CacheKind, Eviction, ModelEvicted, ModelHit, ModelReleased, ModelWarmed
from libs.common.events.event import Event
from libs.common.events.runtime import ModelDownloaded
from libs.common.units import GIB
from services.runtime_deployer.core.caches import CACHE, Cache
from services.runtime_deployer.core.lifecycle import Stage
from services.runtime_deployer.core.templates import CachePolicy, Template, VolumeClaim
from services.runtime_deployer.core.weights import label_of
from tests.integration.runtime_bench import TENANT, Bench
from tests.unit.runtime_deployer.a_runtime import (
    ENDPOINT,
    TEMPLATES,
    a_placement,
    a_spec,
    cluster_ready,
    deletion_requested,
    gpu_ready,
    requested,
    withdrawn,
)

TOLD: Final = (ModelWarmed, ModelHit, ModelReleased, ModelEvicted)
STEP_MS: Final = 4_000  # Nothing here asks for more exact looks, and each costs.
ON_A_CLAIM: Final = replace(
    TEMPLATES["vllm@4"], claim=VolumeClaim(storage_gib=500), cache=CachePolicy(capacity_gib=480)
)
FIRST, SECOND, THIRD = ("sha256:" + each * 64 for each in "abc")


def a_bench(template: Template = TEMPLATES["vllm@4"]) -> Bench:
    bench = Bench(templates={template.key: template}, step_ms=STEP_MS)
    bench.hear(wanted(1, template=template.key), cluster_ready(), gpu_ready())
    bench.until_stage(Stage.SERVING)
    return bench


def wanted(generation: int, digest: str = FIRST, *, template: str = "vllm@4") -> Any:
    placement = a_placement(template=template).model_copy(update={"model_digest": digest})
    spec = a_spec(model=f"m-{digest[-1]}")
    return requested(generation=generation, sequence=generation, placement=placement, spec=spec)


def told(bench: Bench) -> list[Event]:
    return [each.data for each in bench.told if isinstance(each.data, TOLD)]


def the_cache(bench: Bench) -> Cache:
    (found,) = bench.service.runner(CACHE).every()
    assert isinstance(found, Cache)
    return found


def update(bench: Bench, generation: int, digest: str, template: str = "vllm@4") -> None:
    bench.hear(wanted(generation, digest, template=template))
    bench.until(lambda: bench.runtime.has_served and {each.recipe for each in seen(bench)} == {bench.runtime.recipe})


def seen(bench: Bench) -> tuple[Any, ...]:
    return bench.runtime.seen.pods if bench.runtime.seen is not None else ()


def test_a_replica_on_a_node_that_has_the_weights_downloads_nothing() -> None:
    bench = a_bench()
    (warmed,) = told(bench)
    assert isinstance(warmed, ModelWarmed)
    assert (warmed.endpoint_id, warmed.size_bytes, warmed.bytes_fetched) == (ENDPOINT, 40 * GIB, 40 * GIB)
    (pod,) = bench.pods
    assert (warmed.cache.kind, warmed.cache.name) == (CacheKind.NODE, pod["spec"]["nodeName"])
    fetch, hold = (bench_init(pod, each) for each in ("model-fetch", "model-hold"))
    assert "running" in hold["state"]
    assert '"cache": "miss"' in fetch["state"]["terminated"]["message"]

    bench.hear(requested(generation=2, sequence=2, spec=a_spec(model="m-a", low=2), placement=wanted(1).data.placement))
    bench.until(lambda: len(bench.runtime.replicas_told.replicas) == 2)

    *_, hit = told(bench)
    assert isinstance(hit, ModelHit)
    assert (hit.endpoint_id, hit.size_bytes, hit.kept_for) == (ENDPOINT, 40 * GIB, "")
    assert (the_cache(bench).hits, the_cache(bench).misses) == (1, 1)
    node = f"{TENANT}/api/v1/nodes/{hit.cache.name}"
    bench.until(lambda: label_of(FIRST) in bench.ask("GET", node)["metadata"]["labels"])
    assert the_cache(bench).capacity_bytes == 1000 * GIB


def bench_init(pod: Any, name: str) -> Any:
    return next(each for each in pod["status"]["initContainerStatuses"] if each["name"] == name)


@pytest.mark.chaos
def test_a_run_that_begins_where_its_weights_are_says_that_nothing_came_from_the_source() -> None:
    bench = a_bench()
    update(bench, 2, SECOND)
    update(bench, 3, FIRST)

    downloads = [each.data.bytes_fetched for each in bench.told if isinstance(each.data, ModelDownloaded)]
    assert downloads == [40 * GIB, 40 * GIB, 0]


@pytest.mark.chaos
@pytest.mark.parametrize("kept", [(), (FIRST,)])
def test_a_full_cache_evicts_what_was_used_longest_ago_unless_it_is_to_be_kept(kept: tuple[str, ...]) -> None:
    small = CachePolicy(capacity_gib=100, node_path="/var/lib/millrace/models", keep=kept)
    bench = a_bench(replace(TEMPLATES["vllm@4"], cache=small))
    update(bench, 2, SECOND)
    bench.until(lambda: len(bench.pods) == 1)
    if kept:
        bench.hear(wanted(3, THIRD))
        bench.until(lambda: "runtime.failed" in bench.kinds)
        assert bench.runtime.failure is not None
        assert bench.runtime.failure.reason == "DiskTooSmall"
        assert not any(isinstance(each, ModelEvicted) for each in told(bench))
        return

    update(bench, 3, THIRD)

    (evicted,) = (each for each in told(bench) if isinstance(each, ModelEvicted))
    assert (evicted.model_digest, evicted.reason, evicted.endpoint_id) == (FIRST, Eviction.ROOM, ENDPOINT)
    assert {each.digest for each in the_cache(bench).models} == {SECOND, THIRD}


def test_a_node_that_is_gone_takes_its_cache_with_it() -> None:
    bench = a_bench()
    node = the_cache(bench).place
    assert node is not None

    bench.ask("DELETE", f"{TENANT}/api/v1/nodes/{node.name}")
    bench.until(lambda: bool(told(bench)) and isinstance(told(bench)[-1], ModelEvicted), within_ms=60_000)

    (gone,) = (each for each in told(bench) if isinstance(each, ModelEvicted))
    assert gone.reason is Eviction.GONE


@pytest.mark.chaos
def test_models_stay_for_nobody_when_their_endpoint_is_gone() -> None:
    bench = a_bench()
    bench.hear(deletion_requested(), withdrawn())
    bench.until_stage(Stage.REMOVED)

    assert isinstance(told(bench)[-1], ModelReleased)
    assert [each.endpoint_id for each in the_cache(bench).models] == [""]
    assert the_cache(bench).users == ()


def test_an_endpoints_volume_is_a_cache_too_and_ends_with_its_claim() -> None:
    bench = a_bench(ON_A_CLAIM)
    found = the_cache(bench)
    assert found.place is not None
    assert (found.place.kind, found.place.name) == (CacheKind.VOLUME, ENDPOINT)
    assert found.capacity_bytes == 480 * GIB

    bench.hear(deletion_requested(), withdrawn())
    bench.until(lambda: the_cache(bench).is_gone)

    released, gone = told(bench)[-2:]
    assert isinstance(released, ModelReleased)
    assert isinstance(gone, ModelEvicted)
    assert (gone.reason, gone.endpoint_id) == (Eviction.GONE, "")


def what_is_told(bench: Bench) -> dict[str, set[str]]:
    """What somebody who heard everything would say is in each cache."""
    found: dict[str, set[str]] = {}
    for each in (each for each in bench.told if isinstance(each.data, TOLD)):
        there = found.setdefault(each.subject, set())
        match each.data:
            case ModelWarmed() | ModelHit() as here:
                there.add(here.model_digest)
            case ModelEvicted() as gone:
                there.remove(gone.model_digest)
    return found


def what_is_there(bench: Bench) -> list[set[str]]:
    """What the twin has, on the nodes that stand."""
    caches: Any = bench.world.inventory()["caches"]
    return [set(each["models"]) for each in caches]


@pytest.mark.chaos
@pytest.mark.parametrize("place", range(0, 300, 100))
def test_what_is_told_of_caches_is_what_the_twin_has_wherever_the_deployer_dies(place: int) -> None:
    small = CachePolicy(capacity_gib=100, node_path="/var/lib/millrace/models")
    bench = a_bench(replace(TEMPLATES["vllm@4"], cache=small))
    bench.crash.place = bench.crash.count + place + 1
    for generation, digest in ((2, SECOND), (3, THIRD), (4, SECOND), (5, FIRST)):
        update(bench, generation, digest)
        bench.until(lambda: len(bench.pods) == 1)
    for _ in range(3):
        bench.step()

    assert list(what_is_told(bench).values()) == what_is_there(bench)
    assert {each.digest for each in the_cache(bench).models} == what_is_there(bench)[0]
    assert bench.crashes == 1
