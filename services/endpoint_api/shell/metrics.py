"""Metrics of endpoint-api. Labels are stages, verbs and codes: all bounded."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from libs.common.clock import Clock
from libs.common.decision import Decide, Decision
from libs.common.errors import MillraceError, Rejected, Unavailable
from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope
from libs.common.runner import Runner
from libs.common.store.port import Attention, Store
from services.endpoint_api.core.explain import is_overdue
from services.endpoint_api.core.state import Endpoint

KEYS_MAX: Final = 1000  # Endpoints read in one go while counting.

ENDPOINTS: Final = Gauge("endpoint_api_endpoints", "Endpoints that are not deleted, by stage.", ("stage",))
OVERDUE: Final = Gauge(
    "endpoint_api_overdue_endpoints", "Endpoints past their stage's deadline; while deleting, people must look.",
    ("stage",),
)  # fmt: skip
COMMANDS: Final = Counter(
    "endpoint_api_commands_total", "Commands, by what became of them: accepted, or the code of the refusal.",
    ("verb", "outcome"),
)  # fmt: skip
STAGE_SECONDS: Final = Histogram(
    "endpoint_api_stage_duration_seconds", "Time from entering a stage to leaving it.", ("stage",),
    buckets=(0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200),
)  # fmt: skip

REFILLED: Final = Counter("endpoint_api_bucket_refills_total", "Keys and tenants put again into a bucket without them.")
SNAPSHOT_VERSION: Final = Gauge("endpoint_api_key_snapshot_version", "Version of the key snapshot that is shown.")
WATCHERS: Final = Gauge("endpoint_api_watchers", "Watches that are open in this process.")
WATCHES_ENDED: Final = Counter("endpoint_api_watches_ended_total", "Watches that ended, by why.", ("reason",))
DELIVERIES: Final = Counter(
    "endpoint_api_webhook_deliveries_total", "Attempts to deliver to a webhook, by how they ended.", ("outcome",)
)
DELIVERY_SECONDS: Final = Histogram(
    "endpoint_api_webhook_delivery_duration_seconds", "Time of an attempt to deliver to a webhook.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 15),
)  # fmt: skip


@contextmanager
def counted(verb: str) -> Iterator[None]:
    """Count the command inside, by how it ends."""
    outcome = "error"
    try:
        yield
        outcome = "accepted"
    except (Rejected, Unavailable) as refusal:
        outcome = refusal.code
        raise
    except MillraceError:
        outcome = "stale"
        raise
    finally:
        COMMANDS.labels(verb=verb, outcome=outcome).inc()


def timed(decide: Decide[Endpoint]) -> Decide[Endpoint]:
    """``decide``, with the time in each stage that it leaves observed.

    A decision that loses to another writer is made, and observed, again: rare, and it can only repeat a time.
    """

    def decide_and_time(endpoint: Endpoint, envelope: Envelope, now_ms: int) -> Decision[Endpoint]:
        decision = decide(endpoint, envelope, now_ms)
        spent_before = {each.stage: each.spent_ms for each in endpoint.visits}
        for visit in decision.state.visits:
            left = visit.spent_ms > spent_before.get(visit.stage, 0)
            if left and visit.stage is not decision.state.stage:
                spent_ms = visit.spent_ms - spent_before.get(visit.stage, 0)
                STAGE_SECONDS.labels(stage=visit.stage).observe(spent_ms / 1000)
        return decision

    return decide_and_time


def count_stages(runner: Runner[Endpoint], store: Store, clock: Clock) -> None:
    """Set the gauges from what is stored."""
    stages: Tally[Stage] = Tally()
    overdue: Tally[Stage] = Tally()
    after = ""
    while keys := store.attended(runner.owned.kind, Attention.WATCH, after=after, limit=KEYS_MAX):
        after = keys[-1]
        for endpoint in _read(runner, keys):
            stages[endpoint.stage] += 1
            overdue[endpoint.stage] += is_overdue(endpoint, clock.now_ms())
    for stage in Stage:
        ENDPOINTS.labels(stage=stage).set(stages[stage])
        OVERDUE.labels(stage=stage).set(overdue[stage])


def _read(runner: Runner[Endpoint], keys: Sequence[str]) -> Iterator[Endpoint]:
    for key in keys:
        endpoint = runner.state(key)
        assert endpoint is not None, key
        yield endpoint
