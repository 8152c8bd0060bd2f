"""Traces: which one a request belongs to, what the engine is told of it, and a span as OTLP has it in JSON.

A span holds ids, counts and times; nothing that was said (reliability.md 3.13).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

SERVER: Final = 2  # OTLP's kinds and codes.
ERROR: Final = 2
NS_PER_MS: Final = 1_000_000
SAMPLED: Final = 1
# The words of OpenTelemetry's conventions for generative AI; what they have no word for keeps ours.
PROVIDER: Final = "millrace"
OPERATIONS: Final[Mapping[str, str]] = MappingProxyType({"completions": "text_completion"})

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


Attribute = str | int | tuple[str, ...] | None  # Of None nothing is told, nor of an empty one.


@dataclass(frozen=True, slots=True)
class Trace:
    """One request's place in a trace: `span` is ours, `parent` the caller's (empty: we began it)."""

    trace: str
    span: str
    parent: str
    is_sampled: bool

    @property
    def traceparent(self) -> str:
        """What the engine is told."""
        return f"00-{self.trace}-{self.span}-0{int(self.is_sampled)}"


def joined(traceparent: str, *, span: str) -> Trace | None:
    """Our place in the caller's trace; None for a header that is not one, which W3C says to ignore."""
    found = _PARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace, parent, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace, 16) or not int(parent, 16):
        return None
    return Trace(trace, span, parent, bool(int(flags, 16) & SAMPLED))


def begun(*, trace: str, span: str) -> Trace:
    """A trace of our own, chosen to be recorded."""
    return Trace(trace, span, "", is_sampled=True)


@dataclass(frozen=True, slots=True)
class Span:
    """What is told of one request."""

    trace: Trace
    name: str
    start_ms: int
    end_ms: int
    error: str
    attributes: Mapping[str, Attribute]
    first_token_ms: int | None = None


def otlp(spans: Iterable[Span], *, service: str, instance: str) -> dict[str, Any]:
    """An `ExportTraceServiceRequest` in OTLP's JSON."""
    resource = {"service.name": service, "service.instance.id": instance}
    scope = {"scope": {"name": "millrace.router"}, "spans": [_span(each) for each in spans]}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}


def _span(span: Span) -> dict[str, Any]:
    said: dict[str, Any] = {
        "traceId": span.trace.trace,
        "spanId": span.trace.span,
        "name": span.name,
        "kind": SERVER,
        "startTimeUnixNano": str(span.start_ms * NS_PER_MS),
        "endTimeUnixNano": str(span.end_ms * NS_PER_MS),
        "attributes": _attributes(span.attributes),
    }
    if span.trace.parent:
        said["parentSpanId"] = span.trace.parent
    if span.error:
        said["status"] = {"code": ERROR}
    if span.first_token_ms is not None:
        said["events"] = [{"name": "gen_ai.first_token", "timeUnixNano": str(span.first_token_ms * NS_PER_MS)}]
    return said


def _attributes(values: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items() if value not in (None, "", ())]


def _value(value: Attribute) -> dict[str, Any]:
    if isinstance(value, tuple):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
