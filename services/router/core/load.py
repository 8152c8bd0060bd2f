"""How busy endpoints are: requests begun, most and mean in flight, over one report's interval."""

from __future__ import annotations

from libs.common.events.route import EndpointLoad


class _Gauge:
    __slots__ = ("area_ms", "begun", "in_flight", "most", "since_ms")

    def __init__(self, now_ms: int) -> None:
        self.in_flight = self.most = self.begun = self.area_ms = 0
        self.since_ms = now_ms

    def step(self, change: int, now_ms: int) -> None:
        self.area_ms += self.in_flight * max(0, now_ms - self.since_ms)
        self.since_ms = max(now_ms, self.since_ms)
        self.in_flight += change
        self.most = max(self.most, self.in_flight)


class LoadMeter:
    """Counts requests as they begin and end; a report closes the interval."""

    def __init__(self, now_ms: int) -> None:
        self.from_ms = now_ms
        self._gauges: dict[str, _Gauge] = {}

    def began(self, endpoint_id: str, now_ms: int) -> None:
        """A request for the endpoint is in flight."""
        gauge = self._gauges.setdefault(endpoint_id, _Gauge(now_ms))
        gauge.step(+1, now_ms)
        gauge.begun += 1

    def ended(self, endpoint_id: str, now_ms: int) -> None:
        """It is no longer."""
        self._gauges[endpoint_id].step(-1, now_ms)

    def in_flight(self, endpoint_id: str) -> int:
        """Requests of the endpoint in flight now."""
        gauge = self._gauges.get(endpoint_id)
        return gauge.in_flight if gauge else 0

    def report(self, now_ms: int) -> tuple[EndpointLoad, ...]:
        """What happened since the last report, by endpoint; an endpoint is left out once it was told to be idle."""
        lasted_ms = max(1, now_ms - self.from_ms)
        loads = []
        for endpoint_id, gauge in sorted(self._gauges.items()):
            gauge.step(0, now_ms)
            average = min(gauge.area_ms * 1000 // lasted_ms, gauge.most * 1000)
            loads.append(
                EndpointLoad(
                    endpoint_id=endpoint_id,
                    requests=gauge.begun,
                    concurrency_max=gauge.most,
                    concurrency_avg_milli=average,
                )
            )
            gauge.begun, gauge.area_ms, gauge.most = 0, 0, gauge.in_flight
        self.from_ms = now_ms
        # Told once more at zero, so that its reader need not guess from silence; then forgotten.
        self._gauges = {
            load.endpoint_id: self._gauges[load.endpoint_id]
            for load in loads
            if load.requests or load.concurrency_max or self._gauges[load.endpoint_id].in_flight
        }
        return tuple(loads)
