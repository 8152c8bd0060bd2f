"""Metrics of the router. No label is unbounded: no tenant or key ids, and few endpoints; `millrace top` has them all.

What is counted at every request is a plain number or a measure that is added up only when somebody looks, or a child
made once: a look-up of labels costs more than the count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from services.router.core import measures
from services.router.core.measures import Measure, Measures
from services.router.core.refusals import HttpRefusal
from services.router.core.traces import OPERATIONS, PROVIDER

REFUSALS: Final = Counter("router_refusals_total", "Requests refused, by code, or by status if it has none.", ("code",))
LIVE: Final = Gauge("router_live_requests", "Generating requests in flight.")
CONNECTIONS: Final = Gauge("router_client_connections", "Open client connections.")
RETRIES: Final = Counter("router_upstream_retries_total", "Requests sent to the engine a second time.")
UNRETRIED: Final = Counter(
    "router_upstream_retries_withheld_total", "Requests not sent a second time: too many engines answer with errors."
)
BACKLOG: Final = Gauge("router_usage_backlog", "Finished requests that the ledger has not confirmed.")
BATCHES: Final = Counter("router_usage_batches_total", "Usage batches that the bus took.")
CONFIRMED: Final = Counter("router_usage_confirmed_total", "Requests that the ledger confirmed.")
RECOVERED: Final = Counter(
    "router_usage_recovered_total", "Requests of a dead process, billed at their last checkpoint."
)
LIMITED: Final = Counter("router_rate_limited_total", "Requests refused by a limit per minute, by which.", ("what",))
WAITING: Final = Gauge("router_waiting_requests", "Requests that wait for a replica.")
SHED: Final = Counter(
    "router_shed_total", "Requests not let wait: queue full, more than a fair share, too late, router busy.", ("why",)
)
SHED_BUSY: Final = SHED.labels(why="busy")  # By this process's own load (core/pressure.py).
EJECTED: Final = Counter("router_replicas_ejected_total", "Times that a replica was left out because it failed.")
ROUTES: Final = Gauge("router_routes", "Routes in the data plane's table.")
HOSTS_HEARD: Final = Gauge("router_hosts_heard", "Routers of other hosts that said something lately; 0 if alone.")
LOST: Final = Gauge(
    "router_lost_entries", "Keys, routes and quotas served from our copy because the bus lost them.", ("bucket",)
)
KEY_SNAPSHOTS: Final = Counter("router_key_snapshots_total", "Pulls of the snapshot of keys, by outcome.", ("outcome",))
KEY_SNAPSHOT_AGE: Final = Gauge(
    "router_key_snapshot_age_seconds",
    "Since endpoint-api last said over HTTP what is so of keys; 0 if it is not asked.",
)
KEYS_ENDED: Final = Counter("router_keys_ended_by_snapshot_total", "Keys whose end the bus had not said.")
JOURNAL_SECONDS: Final = Histogram(
    "router_journal_commit_seconds",
    "One group commit of the usage journal.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1),
)
SPANS_LOST: Final = Counter("router_spans_lost_total", "Spans that no collector took.")
LINES_LOST: Final = Counter("router_access_lines_lost_total", "Access lines that were not written.")

MEASURES: Final = Measures()  # Of this process, like every metric here.


class Counts:
    """What every request counts: plain numbers of the event loop, read when somebody looks."""

    __slots__ = ("answered",)

    def __init__(self) -> None:
        self.answered = {2: 0, 4: 0, 5: 0}  # By class of status.


COUNTS: Final = Counts()


def note_refusal(refusal: HttpRefusal) -> None:
    """Count a request that was refused."""
    COUNTS.answered[refusal.status // 100] += 1
    _refused(refusal.error_code or str(refusal.status)).inc()


def note_shed(refusal: HttpRefusal, count: int) -> None:
    """Count requests that were sent away unread, all for the same reason."""
    COUNTS.answered[refusal.status // 100] += count
    _refused(refusal.error_code or str(refusal.status)).inc(count)
    SHED_BUSY.inc(count)


def note_limited(what: str) -> None:
    """Count a request that some limit refused."""
    _limited(what).inc()


@cache  # Codes and limits are words of ours, and few.
def _refused(code: str) -> Counter:
    return REFUSALS.labels(code=code)


@cache
def _limited(what: str) -> Counter:
    return LIMITED.labels(what=what)


Labels = tuple[str, ...]
_LABELS: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_TIMES: Final = (
    ("gen_ai_server_time_to_first_token_seconds", "From the whole request to a stream's first content.", "first_token"),
    ("gen_ai_server_time_per_output_token_seconds", "Between the tokens of a stream, after the first.", "per_token"),
    ("gen_ai_server_request_duration_seconds", "From the whole request to its bill.", "duration"),
    ("router_queue_seconds", "From the whole request until an engine was asked.", "queue"),
)


_ENDPOINT: Final = ("endpoint_id",)
_TIMES_OF_ENDPOINTS: Final = (
    ("router_endpoint_time_to_first_token_seconds", "As of all, by endpoint.", "first_token"),
    ("router_endpoint_time_per_output_token_seconds", "As of all, by endpoint.", "per_token"),
    ("router_endpoint_queue_seconds", "As of all, by endpoint.", "queue"),
)


class ServedCollector(Collector):
    """What was served, in the words of OpenTelemetry's conventions for generative AI; and of endpoints, in ours.

    ``endpoints`` says which there are, so that those that are gone give up their labels.
    """

    def __init__(self, of: Measures) -> None:
        self._of = of
        self.endpoints: Callable[[], Collection[str]] | None = None

    def collect(self) -> Iterable[Metric]:
        """The families, summed now."""
        if self.endpoints is not None:
            self._of.keep(self.endpoints())
        found = [(_labels(each), each) for each in self._of.by_model()]
        yield from _families(found, _LABELS, _TIMES, prefix="router")
        served = [((each.endpoint_id,), each) for each in self._of.by_label()]
        yield from _families(served, _ENDPOINT, _TIMES_OF_ENDPOINTS, prefix="router_endpoint")


def _families(
    found: Sequence[tuple[Labels, Measure]], names: Labels, times: Iterable[tuple[str, str, str]], *, prefix: str
) -> Iterator[Metric]:
    for name, text, attribute in times:
        family = HistogramMetricFamily(name, text, labels=names)
        for labels, measure in found:
            _add(family, labels, getattr(measure, attribute))
        yield family
    tokens = CounterMetricFamily(
        f"{prefix}_tokens", "Tokens billed, and of the prompt those in a cache.", labels=("kind", *names)
    )
    finished = CounterMetricFamily(
        f"{prefix}_requests_finished", "Requests by how they ended.", labels=("finish", *names)
    )
    for labels, measure in found:
        for kind in ("prompt", "cached", "completion"):
            tokens.add_metric((kind, *labels), getattr(measure, f"{kind}_tokens"))
        for finish, count in measure.finishes.items():
            finished.add_metric((finish, *labels), count)
    yield tokens
    yield finished


def _labels(measure: Measure) -> tuple[str, str, str]:
    return OPERATIONS.get(measure.api, measure.api), PROVIDER, measure.model


def _add(family: HistogramMetricFamily, labels: Labels, histogram: measures.Histogram) -> None:
    count = 0
    buckets = []
    for bound, here in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        count += here
        buckets.append((bound, count))
    family.add_metric(labels, buckets, sum_value=histogram.total)


class CountsCollector(Collector):
    """The numbers of `Counts`."""

    def __init__(self, of: Counts) -> None:
        self._of = of

    def collect(self) -> Iterable[Metric]:
        """The family, as it is now."""
        answered = CounterMetricFamily("router_requests", "Requests answered, by class of status.", labels=("status",))
        for status, count in self._of.answered.items():
            answered.add_metric((f"{status}xx",), count)
        yield answered


SERVED: Final = ServedCollector(MEASURES)
REGISTRY.register(SERVED)
REGISTRY.register(CountsCollector(COUNTS))
