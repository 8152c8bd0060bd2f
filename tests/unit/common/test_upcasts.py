"""An older version is read as the newest; planted here, because no event has a second version yet."""

from __future__ import annotations

from typing import ClassVar

import pytest

from libs.common.errors import Invalid
from libs.common.events.catalog import EVENTS
from libs.common.events.envelope import Envelope, from_wire, to_body, to_headers
from libs.common.events.event import Event, Owner
from libs.common.events.upcasts import UPCASTS, step
from libs.common.ids import EventId


class WaterMeasured(Event):
    """The water in the race, in inches."""

    kind: ClassVar[str] = "water.measured"
    owner: ClassVar[Owner] = Owner.ROUTER

    depth_inches: int


class WaterMeasuredV2(Event):
    """The water in the race, in millimetres."""

    kind: ClassVar[str] = "water.measured"
    version: ClassVar[int] = 2
    owner: ClassVar[Owner] = Owner.ROUTER

    depth_mm: int


class WaterMeasuredV3(Event):
    """The water in the race, and where."""

    kind: ClassVar[str] = "water.measured"
    version: ClassVar[int] = 3
    owner: ClassVar[Owner] = Owner.ROUTER

    depth_mm: int
    gauge: str


ALL: dict[str, type[Event]] = {
    "water.measured.v1": WaterMeasured,
    "water.measured.v2": WaterMeasuredV2,
    "water.measured.v3": WaterMeasuredV3,
}
FIRST = step(WaterMeasured, WaterMeasuredV2, lambda old: WaterMeasuredV2(depth_mm=old.depth_inches * 254 // 10))
SECOND = step(WaterMeasuredV2, WaterMeasuredV3, lambda old: WaterMeasuredV3(depth_mm=old.depth_mm, gauge="weir"))


def sent(data: Event) -> Envelope:
    return Envelope(EventId("e-1"), data, subject="race-1", time_ms=1_800_000_000_000, generation=2, sequence=7)


def read(data: Event, *steps: object, body: bytes | None = None) -> Envelope:
    upcasts = {key: value for each in steps if isinstance(each, dict) for key, value in each.items()}
    envelope = sent(data)
    return from_wire(to_headers(envelope), to_body(envelope) if body is None else body, events=ALL, upcasts=upcasts)


def test_a_v1_is_read_as_the_v2_with_everything_else_as_it_was() -> None:
    assert read(WaterMeasured(depth_inches=10), FIRST) == sent(WaterMeasuredV2(depth_mm=254))


def test_steps_are_taken_one_after_the_other_to_the_newest() -> None:
    newest = WaterMeasuredV3(depth_mm=254, gauge="weir")

    assert read(WaterMeasured(depth_inches=10), FIRST, SECOND).data == newest
    assert read(WaterMeasuredV2(depth_mm=254), FIRST, SECOND).data == newest
    assert read(newest, FIRST, SECOND).data == newest


def test_an_older_version_is_checked_by_its_own_schema_first() -> None:
    with pytest.raises(Invalid, match=r"water\.measured\.v1 has wrong data in: depth_inches"):
        read(WaterMeasured(depth_inches=10), FIRST, body=b'{"depth_mm": 254}')


def test_without_a_step_a_version_is_read_as_itself() -> None:
    assert read(WaterMeasured(depth_inches=10)).data == WaterMeasured(depth_inches=10)


def test_a_step_goes_to_the_next_version_of_the_same_event_only() -> None:
    with pytest.raises(AssertionError):
        step(WaterMeasured, WaterMeasuredV3, lambda old: WaterMeasuredV3(depth_mm=old.depth_inches, gauge=""))


def test_every_older_version_has_a_step_to_the_next() -> None:
    newest = {(kind.owner, kind.kind): kind.version for kind in EVENTS.values()}
    for kind in EVENTS.values():
        newest[kind.owner, kind.kind] = max(newest[kind.owner, kind.kind], kind.version)

    stranded = [
        name for name, kind in EVENTS.items() if kind.version < newest[kind.owner, kind.kind] and kind not in UPCASTS
    ]

    assert stranded == []
