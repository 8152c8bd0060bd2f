"""The accounts of held time, by metering's core from what was told, beside what the machines say."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from libs.common.events.capacity import NodeJoined, NodeLost, NodeReleased, NodeUse, NodeUsed
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointStageChanged,
)
from libs.common.events.envelope import Envelope
from libs.common.events.usage import Meter as MeterName
from libs.common.ids import EventId
from libs.common.runner import Woke
from libs.common.units import HOUR_MS
from services.metering.core.decide import decide_meter
from services.metering.core.state import Meter
from services.metering.core.windows import Windows

WINDOWS: Final = Windows(size_ms=HOUR_MS, settle_ms=1)
HEARD: Final = (
    NodeJoined,
    NodeReleased,
    NodeUsed,
    NodeLost,
    EndpointRequested,
    EndpointStageChanged,
    EndpointDeletionRequested,
    EndpointPauseRequested,
)
OF_NODES: Final = (NodeJoined, NodeLost, NodeReleased, NodeUsed)
FOREVER_MS: Final = 1 << 60
WAKES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Booked:
    """Time of one node in one account; `sign` is -1 where it is taken back."""

    node: str
    account: str
    from_ms: int
    to_ms: int
    gpus: int
    sign: int


def booked(heard: Mapping[str, list[Envelope]], *, rng: Random, end_ms: int) -> list[Booked]:
    """What metering enters for these endpoints, each told in an order of its own."""
    found: list[Booked] = []
    for endpoint in sorted(heard):
        events = [each for each in heard[endpoint] if isinstance(each.data, HEARD)]
        rng.shuffle(events)
        found += _of_one(endpoint, events, end_ms)
    return found


def told_ms(told: Iterable[Envelope]) -> dict[str, tuple[str, int, int, int]]:
    """By node: its endpoint, its GPUs, and from when to when it was told to be held."""
    starts: dict[str, tuple[str, int, int]] = {}
    found = {}
    for each in told:
        if isinstance(each.data, NodeJoined):
            starts[each.data.claim] = (each.subject, each.data.gpu_count, each.data.at_ms)
        if isinstance(each.data, NodeReleased):
            found[each.data.claim] = (*starts[each.data.claim], each.data.at_ms)
    return found


def warm_told_ms(heard: Mapping[str, list[Envelope]]) -> int:
    """GPU-milliseconds that were told to stand warm while the endpoint was wanted: a fold of its own, node by node."""
    total = 0
    for events in heard.values():
        ended = _ended(events)
        for use in _told_uses(events):
            total += use[0] * sum(max(0, min(use[2], to) - max(use[1], since)) for since, to in _between(ended))
    return total


def _told_uses(events: Iterable[Envelope]) -> Iterator[tuple[int, int, int]]:
    """GPUs that stood warm, from when to when: the last word on a node, that it went, says when all else ended."""
    gpus: dict[str, int] = {}
    since: dict[str, int] = {}
    gone_ms: dict[str, int] = {}
    told = sorted((one for one in events if isinstance(one.data, OF_NODES)), key=lambda one: one.sequence)
    for each in told:
        if isinstance(each.data, NodeReleased):
            gone_ms[each.data.claim] = each.data.at_ms
    for each in told:
        assert isinstance(each.data, OF_NODES)
        node, at_ms = each.data.claim, each.data.at_ms
        if isinstance(each.data, NodeJoined):
            gpus[node] = each.data.gpu_count
        elif isinstance(each.data, NodeUsed) and each.data.use is NodeUse.WARM:
            since.setdefault(node, at_ms)
        elif node in since:
            yield gpus[node], since.pop(node), min(at_ms, gone_ms.get(node, at_ms))


def _ended(events: Iterable[Envelope]) -> list[tuple[int, int]]:
    """When the endpoint was unwanted: from its end to its next request."""
    found: list[tuple[int, int]] = []
    ends = (EndpointDeletionRequested, EndpointPauseRequested)
    for each in sorted((one for one in events if isinstance(one.data, (*ends, EndpointRequested))), key=_generation):
        if isinstance(each.data, ends):
            found.append((each.time_ms, FOREVER_MS))
        elif found:
            found[-1] = (found[-1][0], each.time_ms)
    return found


def _between(ended: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    since_ms = 0
    for begin_ms, end_ms in ended:
        yield since_ms, begin_ms
        since_ms = end_ms
    yield since_ms, FOREVER_MS


def _generation(each: Envelope) -> int:
    return each.generation


def wrong(entries: Iterable[Booked], held: Mapping[str, tuple[str, int, int, int]]) -> Iterator[str]:
    """Every moment of held time that is not in exactly one account, and every booked one that was not held."""
    steps: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for each in entries:
        steps[each.node][each.from_ms] += each.sign * each.gpus
        steps[each.node][each.to_ms] -= each.sign * each.gpus
    for node, (_, gpus, from_ms, to_ms) in held.items():
        steps[node][from_ms] -= gpus
        steps[node][to_ms] += gpus
    for node, changes in sorted(steps.items()):
        if any(changes.values()):
            yield f"{node} is not booked once: {dict(sorted(changes.items()))} beside {held.get(node)}"


def gpu_ms(entries: Iterable[Booked]) -> Counter[str]:
    """GPU-milliseconds by account."""
    sums: Counter[str] = Counter()
    for each in entries:
        sums[each.account] += each.sign * each.gpus * (each.to_ms - each.from_ms)
    return sums


def _of_one(endpoint: str, events: list[Envelope], end_ms: int) -> Iterator[Booked]:
    meter, wake_ms = Meter(endpoint), None
    for number in range(len(events) + WAKES_MAX):
        if number < len(events):
            envelope = events[number]
        elif wake_ms is not None and wake_ms <= end_ms + HOUR_MS:
            envelope = Envelope(EventId(f"w{number}"), Woke(due_ms=wake_ms), subject=endpoint, time_ms=wake_ms)
        else:
            return
        decision = decide_meter(meter, envelope, end_ms, windows=WINDOWS)
        meter, wake_ms = decision.state, decision.wake_at_ms
        for line in decision.lines:
            if line.meter == MeterName.GPU_MS:
                content = json.loads(line.data)
                yield Booked(
                    content["claim"],
                    line.account.rsplit("/", 1)[1],
                    content["from_ms"],
                    content["to_ms"],
                    content["gpu_count"],
                    1 if line.quantity > 0 else -1,
                )
