"""What an endpoint's own volume has is told from what was seen of it: once, and that it is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from libs.common.events.runtime import RuntimeRemoved, VolumeChanged
from services.runtime_deployer.core.observed import OWNED, Kind, ObjectSeen, Observed
from services.runtime_deployer.shell.pods import bytes_of, object_seen
from tests.unit.runtime_deployer.a_runtime import Scene, a_serving_scene, told

GIB: Final = 1 << 30
LOOKED: Final = (*OWNED, Kind.VOLUME_CLAIM)


def seen(scene: Scene, storage_bytes: int | None, *, looked: tuple[Kind, ...] = LOOKED) -> list[int]:
    """What is told of the volume once it was seen with so many bytes (None: it was not there)."""
    before = len(scene.events)
    look = scene.look(*(scene.runtime.seen.pods if scene.runtime.seen else ()))
    volume = ObjectSeen(kind=Kind.VOLUME_CLAIM, generation=1, digest="d", storage_bytes=storage_bytes)
    objects = (*look.objects, *(() if storage_bytes is None else (volume,)))
    scene.hear(told(look.model_copy(update={"looked": looked, "objects": objects})))
    return [each.capacity_bytes for each in scene.events[before:] if isinstance(each, VolumeChanged)]


def test_a_volume_is_told_once_when_it_grows_and_when_it_is_gone() -> None:
    scene = a_serving_scene()

    assert [seen(scene, each) for each in (100 * GIB, 100 * GIB, 120 * GIB, None, None)] == [
        [100 * GIB], [], [120 * GIB], [0], []
    ]  # fmt: skip


def test_a_look_that_was_not_at_volumes_says_nothing_of_them() -> None:
    scene = a_serving_scene()
    seen(scene, 100 * GIB)

    assert seen(scene, None, looked=OWNED) == []


def test_an_endpoint_without_a_volume_tells_of_none() -> None:
    assert not any(isinstance(each, VolumeChanged) for each in a_serving_scene().events)


def test_a_volume_is_gone_before_the_runtime_is() -> None:
    scene = a_serving_scene()
    seen(scene, 100 * GIB)
    scene.runtime = replace(scene.runtime, spec=None)
    last = Observed(removing=True, looked=LOOKED)
    scene.hear(told(last))

    told_of = [each for each in scene.events if isinstance(each, VolumeChanged | RuntimeRemoved)]
    assert [type(each) for each in told_of][:2] == [VolumeChanged, VolumeChanged]


@pytest.mark.parametrize(
    ("quantity", "size_bytes"),
    [
        ("100Gi", 100 * GIB),
        ("1500Mi", 1500 << 20),
        ("2T", 2 * 10**12),
        ("12k", 12_000),
        ("77", 77),
        ("1.5Gi", 0),
        ("", 0),
    ],
)
def test_a_size_is_read_as_kubernetes_writes_it(quantity: str, size_bytes: int) -> None:
    assert bytes_of(quantity) == size_bytes


def test_a_volume_has_what_it_got_and_before_that_what_it_asked_for() -> None:
    body = {"metadata": {}, "spec": {"resources": {"requests": {"storage": "100Gi"}}}}

    assert object_seen(Kind.VOLUME_CLAIM, body).storage_bytes == 100 * GIB
    got = {**body, "status": {"capacity": {"storage": "128Gi"}}}
    assert object_seen(Kind.VOLUME_CLAIM, got).storage_bytes == 128 * GIB
    assert object_seen(Kind.SERVICE, body).storage_bytes is None
