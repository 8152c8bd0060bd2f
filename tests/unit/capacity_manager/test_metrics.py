"""The gauges that describe all claims."""

from __future__ import annotations

from prometheus_client import REGISTRY

from services.capacity_manager.shell import metrics
from tests.unit.capacity_manager.builders import NOW, Bench, deletion, held, requested


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"millrace_capacity_{name}", labels)


def test_claims_gpus_and_the_age_of_the_oldest_release_are_counted() -> None:
    going = held(Bench(), fewest=2)
    going.hear(deletion(), generation=2, sequence=2)
    waiting = Bench()
    waiting.hear(requested())
    waiting.trouble("PlatformUnavailable")

    metrics.count_claims([held(Bench()).claim, going.claim, waiting.claim], now_ms=NOW + 90_000)

    assert value("claims", stage="held") == 1
    assert value("claims", stage="releasing") == 1
    assert value("claims", stage="failed") == 0
    assert value("gpus_held", node_type="metal3.gpu-h100") == 24
    assert value("nodes", node_type="metal3.gpu-h100") == 3
    assert value("claims_waiting", reason="PlatformUnavailable") == 1
    assert value("release_age_seconds") == 90


def test_a_figure_that_nobody_has_any_more_is_not_kept() -> None:
    metrics.count_claims([held(Bench()).claim], now_ms=NOW)
    metrics.count_claims([], now_ms=NOW)

    assert value("gpus_held", node_type="metal3.gpu-h100") is None
    assert value("release_age_seconds") == 0
    assert value("claims", stage="held") == 0
