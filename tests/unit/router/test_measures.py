"""What was served, summed: nothing is lost when endpoints go, and labels stay few."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.router.core.measures import ENDPOINTS_MAX, MODELS_MAX, OTHER, Histogram, Measure, Measures
from services.router.core.serving import Row
from services.router.core.sse import PromptDetails, Usage
from services.router.shell.metrics import ServedCollector
from tests.unit.router.test_serving import a_serving


def a_bill(
    endpoint_id: str = "ep-a",
    model: str = "m",
    *,
    first_ms: int | None = 1_100,
    tokens: int = 11,
    cached: int | None = None,
) -> Row:
    serving = a_serving()
    serving.final(Usage(5, tokens, PromptDetails(cached)))
    row = serving.completed(2_000)
    return Row(
        **{
            **{name: getattr(row, name) for name in Row.__struct_fields__}, "endpoint_id": endpoint_id, "model": model,
            "started_ms": 1_000, "first_token_ms": first_ms, "ended_ms": 2_100,
        }
    )  # fmt: skip


def test_a_histogram_counts_a_value_at_its_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.add((0.5, 1.0, 1.5, 9.0))

    assert (histogram.counts, histogram.total) == ([2, 1, 1], 12.0)


def test_a_bill_fills_every_measure() -> None:
    measure = Measure("ep-a", "m", "chat")

    measure.add([(a_bill(cached=3), 40), (a_bill(first_ms=None, tokens=0), 0)])

    assert (measure.prompt_tokens, measure.cached_tokens, measure.completion_tokens) == (10, 3, 11)
    assert measure.first_token.total == pytest.approx(0.1)
    assert measure.per_token.total == pytest.approx(0.1)  # 1 s for the ten after the first.
    assert measure.queue.total == pytest.approx(0.04)
    assert measure.duration.total == pytest.approx(2.2)
    assert sum(measure.finishes.values()) == 2


def test_an_answer_that_came_whole_says_nothing_of_its_tokens_times() -> None:
    measure = Measure("ep-a", "m", "chat")

    measure.add([(a_bill(first_ms=2_100), 0)])

    assert sum(measure.first_token.counts) == sum(measure.per_token.counts) == 0
    assert measure.completion_tokens == 11
    assert sum(measure.duration.counts) == 1


def test_sums_never_fall_when_an_endpoint_goes() -> None:
    measures = Measures()
    for each in ("ep-a", "ep-a", "ep-b"):
        measures.note(a_bill(each), 1)

    measures.keep({"ep-b"})
    measures.keep({"ep-b"})

    assert set(measures.by_endpoint()) == {"ep-b"}
    assert [each.completion_tokens for each in measures.by_model()] == [33]


def test_models_beyond_so_many_share_one_label() -> None:
    measures = Measures()
    for number in range(MODELS_MAX + 20):
        measures.note(a_bill(model=f"m{number}"), queue_ms=1)

    found = {each.model: sum(each.finishes.values()) for each in measures.by_model()}

    assert len(found) == MODELS_MAX + 1
    assert found[OTHER] == 20


def test_the_first_endpoints_have_a_label_and_the_others_share_one_that_never_falls() -> None:
    measures, registry = Measures(), CollectorRegistry()
    registry.register(collector := ServedCollector(measures))
    there = {f"ep-{number}" for number in range(ENDPOINTS_MAX + 2)}
    collector.endpoints = lambda: there

    def requests_of(endpoint_id: str) -> float | None:
        labels = {"finish": "stop", "endpoint_id": endpoint_id}
        return registry.get_sample_value("router_endpoint_requests_finished_total", labels)

    for number in range(ENDPOINTS_MAX + 2):
        measures.note(a_bill(f"ep-{number}"), queue_ms=1)
    assert (requests_of("ep-0"), requests_of(f"ep-{ENDPOINTS_MAX}"), requests_of(OTHER)) == (1, None, 2)

    there -= {"ep-0", f"ep-{ENDPOINTS_MAX}"}
    assert (requests_of("ep-0"), requests_of("ep-1"), requests_of(OTHER)) == (None, 1, 2)

    there.add("ep-new")
    for endpoint_id in ("ep-new", f"ep-{ENDPOINTS_MAX + 1}"):
        measures.note(a_bill(endpoint_id, "another model"), queue_ms=1)
    assert (requests_of("ep-new"), requests_of(OTHER)) == (1, 3)
    ttft = registry.get_sample_value("router_endpoint_time_to_first_token_seconds_count", {"endpoint_id": "ep-new"})
    assert ttft == 1


def test_prometheus_reads_them_in_the_words_of_opentelemetry_and_there_without_endpoints() -> None:
    measures, registry = Measures(), CollectorRegistry()
    registry.register(ServedCollector(measures))
    measures.note(a_bill("ep-secret", cached=2), queue_ms=1)

    text = "".join(line for line in generate_latest(registry).decode().split("\n") if "router_endpoint_" not in line)

    labels = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "millrace", "gen_ai_request_model": "m"}
    assert registry.get_sample_value("gen_ai_server_time_to_first_token_seconds_count", labels) == 1
    assert registry.get_sample_value("gen_ai_server_time_to_first_token_seconds_sum", labels) == pytest.approx(0.1)
    assert registry.get_sample_value(
        "gen_ai_server_time_to_first_token_seconds_bucket", {**labels, "le": "0.1"}
    ) == 1  # fmt: skip
    assert registry.get_sample_value("router_tokens_total", {**labels, "kind": "cached"}) == 2
    assert "ep-secret" not in text
