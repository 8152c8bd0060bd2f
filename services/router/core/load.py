"""How busy endpoints are: requests begun, most and mean in flight, over one report's interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from libs.common.events.route import EndpointLoad, ReplicaOutcomes

Outcomes = Callable[[], Mapping[str, tuple[ReplicaOutcomes, ...]]]

# An endpoint that fell idle is told to be so this often, so that one lost report leaves no replica running for ever.
IDLE_REPORTS: Final = 3


class _Gauge:
    __slots__ = ("area_ms", "begun", "idle_reports", "in_flight", "most")

    def __init__(self) -> None:
        self.in_flight = self.most = self.begun = self.idle_reports = 0
        self.area_ms = 0  # The times of those that ended less the times of those that began, since the last report.


class LoadMeter:
    """Counts requests as they begin and end; a report closes the interval.

    ``outcomes`` says how replicas answer, of the endpoints of which that is told.
    """

    def __init__(self, now_ms: int, outcomes: Outcomes = dict) -> None:
        self.from_ms = now_ms
        self._outcomes = outcomes
        self._gauges: dict[str, _Gauge] = {}

    def introduce(self, endpoint_id: str) -> None:
        """Tell that it is idle, if nothing else is known: one that nobody ever asked can fall asleep only so."""
        self._gauges.setdefault(endpoint_id, _Gauge())

    def began(self, endpoint_id: str, now_ms: int) -> None:
        """A request for the endpoint is in flight."""
        gauge = self._gauges.get(endpoint_id)
        if gauge is None:
            self._gauges[endpoint_id] = gauge = _Gauge()
        gauge.begun += 1
        gauge.area_ms -= now_ms
        gauge.in_flight += 1
        if gauge.in_flight > gauge.most:
            gauge.most = gauge.in_flight

    def ended(self, endpoint_id: str, now_ms: int) -> None:
        """It is no longer."""
        gauge = self._gauges[endpoint_id]
        gauge.area_ms += now_ms
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
            area_ms = max(0, gauge.area_ms + gauge.in_flight * now_ms)  # Below 0 where the clock was set back.
            average = min(area_ms * 1000 // lasted_ms, gauge.most * 1000)
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
            gauge.begun, gauge.area_ms, gauge.most = 0, -gauge.in_flight * now_ms, gauge.in_flight
        self.from_ms = now_ms
        self._gauges = {name: each for name, each in self._gauges.items() if each.idle_reports < IDLE_REPORTS}
        return tuple(loads)
