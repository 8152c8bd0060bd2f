"""What was served, measured once and seen three ways: by Prometheus, by `millrace top`, by whoever reads the JSON.

The bills of many requests fill everything at once, number by number: what runs once a request finds the caches of
the processor full of all the rest that a request is, and takes twice its time. Endpoints are kept apart here, where
their number is the table's. Labels of metrics are calls and models, and those few, and the first endpoints that are
served: who has a label keeps it to its end, and who has none never gets one, so that no counter ever falls.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from operator import attrgetter
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
ENDPOINTS_MAX: Final = 20  # Endpoints with one: some 70 series each, 8 ms of the event loop at each scrape.
OTHER: Final = "other"
LOT: Final = 64  # Bills that are added up in a row; whoever looks has the rest added up.

Served = tuple[Row, int]  # A bill, and how long it waited (ms).
_WHAT: Final = attrgetter("endpoint_id", "model", "api")
_FINISH: Final = attrgetter("finish")
_PROMPT: Final = attrgetter("prompt_tokens")
_CACHED: Final = attrgetter("cached_prompt_tokens")
_COMPLETION: Final = attrgetter("completion_tokens")


class Histogram:
    """How many values lay below each bound; the last count is of those beyond all of them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, values: Sequence[float]) -> None:
        """So many more values."""
        for at, count in Counter(map(partial(bisect_left, self.bounds), values)).items():
            self.counts[at] += count
        self.total += sum(values)

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
        self.finishes: Counter[str] = Counter()
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.first_token = Histogram(FIRST_TOKEN_S)
        self.per_token = Histogram(PER_TOKEN_S)
        self.queue = Histogram(FIRST_TOKEN_S)
        self.duration = Histogram(DURATION_S)

    def add(self, served: Sequence[Served]) -> None:
        """So many more requests."""
        bills, queue_ms = zip(*served, strict=True)
        self.finishes.update(map(_FINISH, bills))
        self.prompt_tokens += sum(filter(None, map(_PROMPT, bills)))
        self.completion_tokens += sum(map(_COMPLETION, bills))
        self.cached_tokens += sum(filter(None, map(_CACHED, bills)))
        self.queue.add([each / 1000 for each in queue_ms])
        self.duration.add([(each.ended_ms - each.started_ms) / 1000 for each in bills])
        first_s, between_s = [], []
        for bill in bills:
            first_ms = bill.first_token_ms
            if first_ms is None or first_ms == bill.ended_ms:
                continue  # Of an answer that came whole nobody knows when its first token was made.
            first_s.append((first_ms - bill.started_ms) / 1000)
            if bill.completion_tokens > 1:
                between_s.append((bill.ended_ms - first_ms) / 1000 / (bill.completion_tokens - 1))
        self.first_token.add(first_s)
        self.per_token.add(between_s)

    def merge(self, other: Measure) -> None:
        """What another measured as well."""
        self.finishes.update(other.finishes)
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cached_tokens += other.cached_tokens
        for name in ("first_token", "per_token", "queue", "duration"):
            getattr(self, name).merge(getattr(other, name))


class Measures:
    """All of it, by endpoint and call."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str, str], Measure] = {}
        self._labels: dict[str, str] = {}  # Of each endpoint: its id, or `other`.
        self._named = 0  # How many have a label of their own.
        self._past = Measure(OTHER, "", "")  # Of `other`, those that are gone.
        self._noted: list[Served] = []  # Not added up yet.

    def note(self, bill: Row, queue_ms: int) -> None:
        """A request was billed."""
        noted = self._noted
        noted.append((bill, queue_ms))
        if len(noted) >= LOT:
            self._add_up()

    def _add_up(self) -> None:
        noted, self._noted = self._noted, []
        lots: defaultdict[tuple[str, str, str], list[Served]] = defaultdict(list)
        for each in noted:
            lots[_WHAT(each[0])].append(each)
        for what, lot in lots.items():
            if what not in self._of:
                self._of[what] = Measure(*what)
                self._label(what[0])
            self._of[what].add(lot)

    def _label(self, endpoint_id: str) -> None:
        if endpoint_id not in self._labels:
            has_room = self._named < ENDPOINTS_MAX
            self._labels[endpoint_id] = endpoint_id if has_room else OTHER
            self._named += has_room

    def keep(self, endpoint_ids: Collection[str]) -> None:
        """Of endpoints that are gone only the sums are kept, so that counters never fall."""
        self._add_up()
        gone = [key for key in self._of if key[0] and key[0] not in endpoint_ids]
        for key in gone:
            measure = self._of.pop(key)
            if self._labels[key[0]] == OTHER:
                self._past.merge(measure)
            self._of.setdefault(("", *key[1:]), Measure("", *key[1:])).merge(measure)

        for endpoint_id in {key[0] for key in gone}:
            self._named -= self._labels.pop(endpoint_id) != OTHER

    def by_label(self) -> Iterator[Measure]:
        """Sums by endpoint, whatever the model and call; those without a label of their own are summed as `other`."""
        self._add_up()
        sums = {OTHER: Measure(OTHER, "", "")}
        sums[OTHER].merge(self._past)
        for (endpoint_id, _model, _api), measure in self._of.items():
            if endpoint_id:
                label = self._labels[endpoint_id]
                sums.setdefault(label, Measure(label, "", "")).merge(measure)
        yield from sums.values()

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
