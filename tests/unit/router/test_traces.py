"""Traces: a caller's is joined, what is none is ignored, and a span says nothing but ids, counts and times."""

from __future__ import annotations

import pytest

from services.router.core.traces import Span, begun, joined, otlp
from services.router.shell.seen.spans import Tracer

TRACE, PARENT, OURS = "a" * 32, "b" * 16, "c" * 16


def test_a_callers_trace_is_joined_under_a_span_of_ours() -> None:
    found = joined(f"00-{TRACE}-{PARENT}-01", span=OURS)

    assert found is not None
    assert (found.trace, found.parent, found.is_sampled) == (TRACE, PARENT, True)
    assert found.traceparent == f"00-{TRACE}-{OURS}-01"


def test_a_caller_that_does_not_record_is_passed_on_and_not_recorded() -> None:
    found = joined(f"00-{TRACE}-{PARENT}-00", span=OURS)

    assert found is not None
    assert not found.is_sampled
    assert found.traceparent.endswith("-00")


@pytest.mark.parametrize(
    "header",
    [
        "", "nonsense", f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-01-more", f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\r\nx: y",
    ],
)  # fmt: skip
def test_what_is_no_trace_is_ignored(header: str) -> None:
    assert joined(header, span=OURS) is None


def test_a_version_to_come_is_read_as_far_as_we_know_it() -> None:
    assert joined(f"01-{TRACE}-{PARENT}-01-more", span=OURS) is not None


def test_nothing_is_traced_where_nobody_listens_and_nobody_asked() -> None:
    tracer = Tracer(ratio=1.0)

    assert tracer.begin("") is None
    assert tracer.begin(f"00-{TRACE}-{PARENT}-01") is not None


def test_a_share_of_the_rest_is_traced() -> None:
    assert Tracer(url="http://collector", ratio=0.0).begin("") is None
    found = Tracer(url="http://collector", ratio=1.0).begin("")

    assert found is not None
    assert found.is_sampled
    assert (len(found.trace), len(found.span), found.parent) == (32, 16, "")


def test_a_span_is_otlp() -> None:
    span = Span(
        begun(trace=TRACE, span=OURS), "chat m", 1_000, 1_250, "timeout",
        {"gen_ai.usage.output_tokens": 3, "millrace.replica": "pod-0", "why": ("stop",), "nothing": None},
        first_token_ms=1_100,
    )  # fmt: skip

    [resource] = otlp([span], service="router", instance="router-0")["resourceSpans"]

    [found] = resource["scopeSpans"][0]["spans"]
    assert found["startTimeUnixNano"] == "1000000000"
    assert found["attributes"] == [
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "3"}},
        {"key": "millrace.replica", "value": {"stringValue": "pod-0"}},
        {"key": "why", "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}}},
    ]
    assert found["status"] == {"code": 2}
    assert found["events"][0]["timeUnixNano"] == "1100000000"
    assert "parentSpanId" not in found
