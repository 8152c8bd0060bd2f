"""How busy endpoints are: requests begun, most and mean in flight, over one report's interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from libs.common.events.route import EndpointLoad, ReplicaOutcomes

Outcomes = Callable[[], Mapping[str, tuple[ReplicaOutcomes, ...]]]

# An endpoint that fell idle is told to be so this often, so that one lost report leaves no replica running for ever.
IDLE_REPORTS: Final = 3


class _Gauge:
    __slots__ = ("area_ms", "begun", "idle_reports", "in_flight", "most", "since_ms")

    def __init__(self, now_ms: int) -> None:
        self.in_flight = self.most = self.begun = self.area_ms = self.idle_reports = 0
        self.since_ms = now_ms

    def until(self, now_ms: int) -> None:
        if now_ms > self.since_ms:
            self.area_ms += self.in_flight * (now_ms - self.since_ms)
            self.since_ms = now_ms


class LoadMeter:
    """Counts requests as they begin and end; a report closes the interval.

    ``outcomes`` says how replicas answer, of the endpoints of which that is told.
    """

    def __init__(self, now_ms: int, outcomes: Outcomes = dict) -> None:
        self.from_ms = now_ms
        self._outcomes = outcomes
        self._gauges: dict[str, _Gauge] = {}

    def introduce(self, endpoint_id: str, now_ms: int) -> None:
        """Tell that it is idle, if nothing else is known: one that nobody ever asked can fall asleep only so."""
        self._gauges.setdefault(endpoint_id, _Gauge(now_ms))

    def began(self, endpoint_id: str, now_ms: int) -> None:
        """A request for the endpoint is in flight."""
        gauge = self._gauges.get(endpoint_id)
        if gauge is None:
            self._gauges[endpoint_id] = gauge = _Gauge(now_ms)
        gauge.begun += 1
        if now_ms > gauge.since_ms:  # As `until` does, without a call for every request.
            gauge.area_ms += gauge.in_flight * (now_ms - gauge.since_ms)
            gauge.since_ms = now_ms
        gauge.in_flight += 1
        if gauge.in_flight > gauge.most:
            gauge.most = gauge.in_flight

    def ended(self, endpoint_id: str, now_ms: int) -> None:
        """It is no longer."""
        gauge = self._gauges[endpoint_id]
        if now_ms > gauge.since_ms:
            gauge.area_ms += gauge.in_flight * (now_ms - gauge.since_ms)
            gauge.since_ms = now_ms
        gauge.in_flight -= 1

    def in_flight(self, endpoint_id: str) -> int:
        """Requests of the endpoint in flight now."""
        gauge = self._gauges.get(endpoint_id)
        return gauge.in_flight if gauge else 0

    def report(self, now_ms: int) -> tuple[EndpointLoad, ...]:
        """What happened since the last report, by endpoint; an endpoint is left out once it was told to be idle."""
        lasted_ms = max(1, now_ms - self.from_ms)
        loads, outcomes = [], self._outcomes()
        for endpoint_id, gauge in sorted(self._gauges.items()):
            gauge.until(now_ms)
            average = min(gauge.area_ms * 1000 // lasted_ms, gauge.most * 1000)
            loads.append(
                EndpointLoad(
                    endpoint_id=endpoint_id,
                    requests=gauge.begun,
                    concurrency_max=gauge.most,
                    concurrency_avg_milli=average,
                    replicas=outcomes.get(endpoint_id, ()),
                )
            )
            is_idle = not (gauge.begun or gauge.most or gauge.in_flight)
            gauge.idle_reports = gauge.idle_reports + 1 if is_idle else 0
            gauge.begun, gauge.area_ms, gauge.most = 0, 0, gauge.in_flight
        self.from_ms = now_ms
        self._gauges = {name: each for name, each in self._gauges.items() if each.idle_reports < IDLE_REPORTS}
        return tuple(loads)
