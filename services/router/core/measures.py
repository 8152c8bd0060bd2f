"""What was served, measured once and seen three ways: by Prometheus, by `millrace top`, by whoever reads the JSON.

One look at the bill of a request fills everything, and of many in a row: what runs once a request finds the caches of
the processor full of all the rest that a request is, and takes twice its time. Endpoints are kept
apart here, where their number is the table's; in the labels of metrics only calls and models are, and those few.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import Final

from services.router.core.serving import Row

# The buckets that OpenTelemetry recommends for each, and some beyond where we see values there.
FIRST_TOKEN_S: Final = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
)
PER_TOKEN_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
DURATION_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84)
MODELS_MAX: Final = 50  # Models with a label of their own; a catalogue has fewer.
OTHER: Final = "other"
LOT: Final = 64  # Bills that are added up in a row; whoever looks has the rest added up.


class Histogram:
    """How many values lay below each bound; the last count is of those beyond all of them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, other: Histogram) -> None:
        """Those of another as well."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Measure:
    """What was served of one call, at one endpoint or summed over several."""

    __slots__ = (
        "api", "cached_tokens", "completion_tokens", "duration", "endpoint_id", "finishes", "first_token", "model",
        "per_token", "prompt_tokens", "queue",
    )  # fmt: skip

    def __init__(self, endpoint_id: str, model: str, api: str) -> None:
        self.endpoint_id, self.model, self.api = endpoint_id, model, api
        self.finishes: dict[str, int] = {}
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.first_token = Histogram(FIRST_TOKEN_S)
        self.per_token = Histogram(PER_TOKEN_S)
        self.queue = Histogram(FIRST_TOKEN_S)
        self.duration = Histogram(DURATION_S)

    def note(self, bill: Row, *, queue_ms: int, cached_tokens: int) -> None:
        """One more request."""
        finishes, tokens, first_ms = self.finishes, bill.completion_tokens, bill.first_token_ms
        finishes[bill.finish] = finishes[bill.finish] + 1 if bill.finish in finishes else 1
        self.prompt_tokens += bill.prompt_tokens or 0
        self.completion_tokens += tokens
        self.cached_tokens += cached_tokens
        queue, duration, first, per_token = self.queue, self.duration, self.first_token, self.per_token
        duration_s = (bill.ended_ms - bill.started_ms) / 1000
        duration.counts[bisect_left(DURATION_S, duration_s)] += 1  # As `add` does, for every request.
        duration.total += duration_s
        if queue_ms:
            queue.add(queue_ms / 1000)
        else:
            queue.counts[0] += 1  # Nothing waits in most requests.
        if first_ms is None or first_ms == bill.ended_ms:
            return  # Of an answer that came whole nobody knows when its first token was made.
        first_s = (first_ms - bill.started_ms) / 1000
        first.counts[bisect_left(FIRST_TOKEN_S, first_s)] += 1
        first.total += first_s
        if tokens > 1:
            between_s = (bill.ended_ms - first_ms) / 1000 / (tokens - 1)
            per_token.counts[bisect_left(PER_TOKEN_S, between_s)] += 1
            per_token.total += between_s

    def merge(self, other: Measure) -> None:
        """What another measured as well."""
        for finish, count in other.finishes.items():
            self.finishes[finish] = self.finishes.get(finish, 0) + count
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cached_tokens += other.cached_tokens
        for name in ("first_token", "per_token", "queue", "duration"):
            getattr(self, name).merge(getattr(other, name))


class Measures:
    """All of it, by endpoint and call."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str, str], Measure] = {}
        self._noted: list[tuple[Row, int, int]] = []  # Not added up yet.

    def note(self, bill: Row, *, queue_ms: int, cached_tokens: int = 0) -> None:
        """A request was billed."""
        self._noted.append((bill, queue_ms, cached_tokens))
        if len(self._noted) >= LOT:
            self._add_up()

    def _add_up(self) -> None:
        noted, self._noted = self._noted, []
        for bill, queue_ms, cached_tokens in noted:
            key = (bill.endpoint_id, bill.model, bill.api)
            found = self._of.get(key)
            if found is None:
                self._of[key] = found = Measure(*key)
            found.note(bill, queue_ms=queue_ms, cached_tokens=cached_tokens)

    def keep(self, endpoint_ids: Collection[str]) -> None:
        """Of endpoints that are gone only the sums are kept, so that counters never fall."""
        self._add_up()
        gone = [key for key in self._of if key[0] and key[0] not in endpoint_ids]
        for key in gone:
            measure = self._of.pop(key)
            self._of.setdefault(("", *key[1:]), Measure("", *key[1:])).merge(measure)

    def by_endpoint(self) -> dict[str, list[Measure]]:
        """The measures of each endpoint that is there."""
        self._add_up()
        found: dict[str, list[Measure]] = {}
        for (endpoint_id, _model, _api), measure in self._of.items():
            if endpoint_id:
                found.setdefault(endpoint_id, []).append(measure)
        return found

    def by_model(self) -> Iterator[Measure]:
        """Sums by model and call; models beyond so many, the later ones, are summed as `other`."""
        self._add_up()
        names: list[str] = []
        sums: dict[tuple[str, str], Measure] = {}
        for measure in self._of.values():
            if measure.model not in names:
                names.append(measure.model)
            name = measure.model if names.index(measure.model) < MODELS_MAX else OTHER
            sums.setdefault((name, measure.api), Measure("", name, measure.api)).merge(measure)
        yield from sums.values()
