"""Replicas, adapters and volumes: count times time, from facts alone, the same whatever the order they came in."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import pytest
from pydantic import ValidationError

from libs.common.errors import Invalid
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
from libs.common.events.runtime import Replica, ReplicasChanged, VolumeChanged
from libs.common.events.usage import Meter, UsagePart, UsageRecorded
from libs.common.units import HOUR_MS
from services.metering.core.labels import labels_of
from services.metering.core.state import Meter as MeterState
from services.metering.core.windows import Windows
from tests.unit.metering.world import ENDPOINT, ROOT, T0, World, deleted, envelope, requested

MIB: Final = 1 << 20
COUNTED: Final = (Meter.REPLICA_MS, Meter.ADAPTER_MS, Meter.VOLUME_MIB_MS)


def replicas(*adapters: tuple[str, ...], at_ms: int, sequence: int) -> Envelope:
    """There are these replicas from now on, each with these adapters loaded."""
    there = tuple(
        Replica(name=f"pod-{number}", url="http://10.0.0.1:8000", adapters=names)
        for number, names in enumerate(adapters)
    )
    data = ReplicasChanged(desired=2, ready=len(there), replicas=there)
    return envelope(data, sequence=sequence, at_ms=at_ms)


def volume(capacity_bytes: int, *, at_ms: int, sequence: int) -> Envelope:
    return envelope(VolumeChanged(capacity_bytes=capacity_bytes), sequence=sequence, at_ms=at_ms)


LIFE: Final = (
    requested(),
    volume(3 * MIB + 1, at_ms=T0 + 100, sequence=1),
    replicas((), at_ms=T0 + 1_000, sequence=2),
    replicas(("fin",), ("fin", "law"), at_ms=T0 + 4_500, sequence=3),
    replicas(("fin",), at_ms=T0 + 12_000, sequence=4),
    replicas(at_ms=T0 + 21_250, sequence=5),
    volume(0, at_ms=T0 + 22_000, sequence=6),
)
TRUTH: Final = {
    (Meter.REPLICA_MS, ""): 3_500 + 2 * 7_500 + 9_250,
    (Meter.ADAPTER_MS, "fin"): 2 * 7_500 + 9_250,
    (Meter.ADAPTER_MS, "law"): 7_500,
    (Meter.VOLUME_MIB_MS, ""): 4 * 21_900,
}


def lines(world: World) -> Counter[tuple[str, str]]:
    """What the ledger adds up to, by meter and adapter."""
    found = Counter[tuple[str, str]]()
    for each in world.store.ledger.values():
        if each.meter in COUNTED:
            assert each.account == ROOT
            found[each.meter, labels_of(each.labels).adapter] += each.quantity
    return found


def told(world: World) -> Counter[tuple[str, str]]:
    """What a billing system that keeps the last revision of each window has, by meter and adapter."""
    last = {
        (each.meter, each.window_start_ms): each
        for each in world.told()
        if isinstance(each, UsageRecorded) and each.meter in COUNTED
    }
    found = Counter[tuple[str, str]]()
    for each in last.values():
        for part in each.parts or (UsagePart(quantity=each.quantity),):
            found[each.meter, part.adapter] += part.quantity
    return found


def test_replicas_adapters_and_volumes_are_counted_to_the_millisecond() -> None:
    world = World()
    for each in LIFE:
        world.clock.advance(max(0, each.time_ms - world.clock.now_ms()))
        world.hear(each)
    world.pass_time(20)

    assert lines(world) == TRUTH
    assert told(world) == TRUTH


def test_what_still_runs_is_booked_window_by_window() -> None:
    world = World()
    world.hear(*LIFE[:4])
    world.pass_time(23)

    found = lines(world)

    assert found[Meter.REPLICA_MS, ""] == 3_500 + 2 * 15_500, "up to the last window that has closed and settled"
    assert found[Meter.VOLUME_MIB_MS, ""] == 4 * 19_900


@pytest.mark.parametrize("seed", range(12))
def test_the_order_in_which_news_comes_does_not_matter(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    for each in chance.sample([*LIFE, *LIFE[1:]], 2 * len(LIFE) - 1):
        world.hear(each)
        world.pass_time(chance.randint(0, 9))
    world.pass_time(40)

    assert +lines(world) == TRUTH
    assert +told(world) == TRUTH


def test_a_change_of_the_model_divides_the_time_of_replicas() -> None:
    world = World()
    world.hear(requested(), replicas((), at_ms=T0, sequence=1))
    world.pass_time(4)
    world.hear(requested(at_ms=T0 + 4_000, sequence=2, generation=2, model="millrace/other"))
    world.pass_time(20)

    by_model = Counter[str]()
    for each in world.lines(Meter.REPLICA_MS):
        by_model[labels_of(each.labels).model] += each.quantity
    assert by_model == {"millrace/ngram-1": 4_000, "millrace/other": 16_000}


def test_what_nobody_asked_for_waits_until_it_is_known_whose_it_is() -> None:
    world = World()
    world.hear(replicas((), at_ms=T0, sequence=1))
    world.pass_time(15)
    before = lines(world)
    world.hear(requested())
    world.pass_time(10)

    assert not before
    assert lines(world)[Meter.REPLICA_MS, ""] == 20_000


def test_a_volume_that_cannot_be_is_a_dead_letter_and_changes_nothing() -> None:
    world = World()
    world.hear(requested(), volume(MIB, at_ms=T0, sequence=1))
    before = world.service.runner("meter").state("ep-one")

    with pytest.raises(Invalid, match="no volume is so large"):
        world.hear(volume((1 << 50) + 1, at_ms=T0 + 1, sequence=2))
    with pytest.raises(ValidationError):
        volume(-1, at_ms=T0 + 1, sequence=2)

    assert world.service.runner("meter").state("ep-one") == before


def test_days_of_changes_are_forgotten_and_stay_in_the_ledger() -> None:
    world = World(Windows(size_ms=HOUR_MS, settle_ms=1_000))
    world.hear(requested())
    for hour in range(0, 96, 2):
        world.clock.advance(HOUR_MS)
        world.hear(replicas((), ("a",), at_ms=world.clock.now_ms(), sequence=hour + 1))
        world.clock.advance(HOUR_MS)
        world.hear(replicas(at_ms=world.clock.now_ms(), sequence=hour + 2))
        world.rest()
    world.hear(deleted(at_ms=world.clock.now_ms(), sequence=200))
    world.rest()

    meter: MeterState | None = world.service.runner("meter").state("ep-one")
    assert lines(world) == {(Meter.REPLICA_MS, ""): 48 * 7_200_000, (Meter.ADAPTER_MS, "a"): 48 * 3_600_000}
    assert meter is not None
    assert len(meter.things.rosters) <= 49, "one an hour, of two days"


NODE: Final = CachePlace(kind=CacheKind.NODE, platform_project="p", cluster="c", name="n", path="/models")
MODEL: Final[dict[str, Any]] = {"cache": NODE, "model_digest": "sha256:" + "a" * 64, "size_bytes": 8 * MIB}


def cached(
    cache: str, data: ModelWarmed | ModelHit | ModelReleased | ModelEvicted, at_ms: int, sequence: int
) -> Envelope:
    return replace(envelope(data, sequence=sequence, at_ms=at_ms), subject=cache)


CACHED: Final = (
    requested(),
    cached("cache-1", ModelWarmed(**MODEL, endpoint_id=ENDPOINT), T0 + 1_000, 1),
    cached("cache-2", ModelWarmed(**MODEL, endpoint_id=ENDPOINT), T0 + 2_000, 1),
    cached("cache-1", ModelHit(**MODEL, endpoint_id=ENDPOINT), T0 + 3_000, 2),
    cached("cache-2", ModelReleased(**MODEL, endpoint_id=ENDPOINT), T0 + 5_000, 2),
    cached("cache-2", ModelHit(**MODEL, endpoint_id=ENDPOINT, kept_for=ENDPOINT), T0 + 9_000, 3),
    cached("cache-1", ModelEvicted(**MODEL, endpoint_id=ENDPOINT, reason=Eviction.ROOM), T0 + 11_500, 3),
    cached("cache-2", ModelEvicted(**MODEL, endpoint_id=ENDPOINT, reason=Eviction.GONE), T0 + 21_000, 4),
)
CACHED_MIB_MS: Final = 8 * (10_500 + 3_000 + 12_000)


@pytest.mark.parametrize("seed", range(8))
def test_cached_models_are_counted_by_cache_whatever_the_order(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    for each in chance.sample([*CACHED, *CACHED[1:]], 2 * len(CACHED) - 1):
        world.hear(each)
        world.pass_time(chance.randint(0, 9))
    world.pass_time(40)

    assert sum(each.quantity for each in world.lines(Meter.CACHE_MIB_MS)) == CACHED_MIB_MS
    assert {each.account for each in world.lines(Meter.CACHE_MIB_MS)} == {ROOT}


def test_a_model_that_is_kept_for_another_costs_nothing_here() -> None:
    world = World()
    world.hear(requested())
    world.hear(
        cached("cache-1", ModelWarmed(**MODEL, endpoint_id=""), T0, 1),
        cached("cache-1", ModelHit(**MODEL, endpoint_id=ENDPOINT), T0, 2),
    )
    world.pass_time(30)

    assert not world.lines(Meter.CACHE_MIB_MS)


def test_what_a_cache_no_longer_keeps_is_forgotten_and_what_it_keeps_goes_on() -> None:
    world = World(Windows(size_ms=HOUR_MS, settle_ms=1_000))
    world.hear(*CACHED[:3], CACHED[6])
    for _ in range(100):
        world.clock.advance(HOUR_MS)
        world.rest()
    meter: MeterState | None = world.service.runner("meter").state(ENDPOINT)

    assert meter is not None
    assert [each.name for each in meter.things.cached] == ["cache-2/aaaaaaaaaaaaaaaa"]
    assert max(each.at_ms for each in world.lines(Meter.CACHE_MIB_MS)) >= T0 + 98 * HOUR_MS


def test_a_cached_model_that_no_disk_holds_is_refused() -> None:
    world = World()
    vast = ModelWarmed(**{**MODEL, "size_bytes": 1 << 51}, endpoint_id=ENDPOINT)

    with pytest.raises(Invalid, match="no volume is so large"):
        world.hear(requested(), cached("cache-1", vast, T0, 1))
