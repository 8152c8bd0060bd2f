"""The envelope that every event travels in: CloudEvents 1.0, binary mode, as NATS headers around a JSON body.

Extensions of ours: `generation` (of the endpoint), `sequence` (the owner's, per endpoint; orders what one owner says),
`causationid` (the event or command that led to this one) and `traceparent` (W3C).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from libs.common.errors import Invalid, UnknownEvent
from libs.common.events.attributes import attributes_of, headers_of
from libs.common.events.catalog import EVENTS
from libs.common.events.event import Event, Internal, Owner
from libs.common.events.facts import Heard
from libs.common.events.upcasts import UPCASTS, Upcasts, upcast
from libs.common.ids import EventId, event_id

SPEC_VERSION: Final = "1.0"
COUNT: Final = re.compile(r"[0-9]{1,18}")  # Fits the 64 bits of a database column.


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event and what is known of it: who it is about, which number its owner gave it, what caused it."""

    id: EventId
    data: Event
    subject: str
    time_ms: int
    generation: int = 0
    sequence: int = 0
    causation_id: str = ""
    traceparent: str = ""

    @property
    def type(self) -> str:
        """The CloudEvents type, such as ``capacity.reserved.v1``."""
        return type_of(type(self.data))

    @property
    def owner(self) -> Owner:
        """The service that told it."""
        return type(self.data).owner

    def heard(self) -> Heard | None:
        """What the event says as a fact; None if it is not one."""
        kind = type(self.data)
        if kind.fact is None:
            return None
        return Heard(kind.fact, kind.holds, self.generation, self.sequence, self.time_ms)


def type_of(kind: type[Event]) -> str:
    """The CloudEvents type of an event class."""
    return f"{kind.kind}.v{kind.version}"


def effect(
    cause: Envelope,
    data: Event,
    *,
    teller: str,
    subject: str,
    index: int,
    generation: int,
    sequence: int,
    now_ms: int,
) -> Envelope:
    """The envelope of the ``index``-th thing that ``teller`` says because of ``cause``: the same id after a crash."""
    told_id = event_id(cause.id, f"{data.owner}|{teller}", index)
    return Envelope(
        id=told_id,
        data=data,
        subject=subject,
        time_ms=now_ms,
        generation=generation,
        sequence=sequence,
        causation_id=cause.id,
        traceparent=child_of(cause.traceparent, told_id),
    )


def child_of(traceparent: str, told_id: str) -> str:
    """The same trace, with a span id computed from the event's id; empty stays empty."""
    parts = traceparent.split("-")
    if len(parts) != 4:  # W3C trace context: version-trace-span-flags.
        return ""
    return f"{parts[0]}-{parts[1]}-{told_id.replace('-', '')[:16]}-{parts[3]}"


def to_headers(envelope: Envelope) -> dict[str, str]:
    """The CloudEvents attributes as ``ce-*`` headers."""
    assert not isinstance(envelope.data, Internal), f"{envelope.type} is internal and never leaves its service"
    when = datetime.fromtimestamp(envelope.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    attributes = {
        "specversion": SPEC_VERSION,
        "id": envelope.id,
        "type": envelope.type,
        "source": f"/{envelope.owner}",
        "subject": envelope.subject,
        "time": when.replace("+00:00", "Z"),
        "dataschema": f"schemas/events/{envelope.owner}/{envelope.data.kind}/v{envelope.data.version}.json",
        "generation": str(envelope.generation),
        "sequence": str(envelope.sequence),
        "causationid": envelope.causation_id,
        "traceparent": envelope.traceparent,
    }
    return headers_of(attributes)


def to_body(envelope: Envelope) -> bytes:
    """The event's data as JSON."""
    return envelope.data.model_dump_json().encode()


def from_wire(
    headers: Mapping[str, str],
    body: bytes,
    *,
    events: Mapping[str, type[Event]] = EVENTS,
    upcasts: Upcasts = UPCASTS,
) -> Envelope:
    """Read an event off the wire; one of an older version as the newest that says the same.

    Raises UnknownEvent for a type or version that this build does not know, Invalid for anything malformed.
    """
    attributes = attributes_of(headers)
    kind = events.get(attributes.get("type", ""))
    if kind is None:
        raise UnknownEvent(f"no event type {attributes.get('type', '')!r} in this build; upgrade, then re-drive")
    if attributes.get("source") != f"/{kind.owner}":
        raise Invalid(f"{attributes['type']} belongs to {kind.owner}, not to {attributes.get('source')!r}")
    try:
        return Envelope(
            id=EventId(attributes["id"]),
            data=upcast(kind.model_validate_json(body), upcasts),
            subject=attributes["subject"],
            time_ms=_epoch_ms(attributes["time"]),
            generation=_count(attributes.get("generation", "0")),
            sequence=_count(attributes.get("sequence", "0")),
            causation_id=attributes.get("causationid", ""),
            traceparent=attributes.get("traceparent", ""),
        )
    except KeyError as missing:
        raise Invalid(f"{attributes['type']} lacks the CloudEvents attribute {missing}") from missing
    except ValidationError as wrong:
        fields = ", ".join(".".join(map(str, error["loc"])) or "body" for error in wrong.errors(include_input=False))
        raise Invalid(f"{attributes['type']} has wrong data in: {fields}") from None
    except ValueError as wrong:
        raise Invalid(f"{attributes['type']} has a malformed attribute: {wrong}") from wrong


def _epoch_ms(text: str) -> int:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError("time has no zone: end it with Z")
    return round(when.timestamp() * 1000)


def _count(text: str) -> int:
    """A number as we write it: digits alone. `int` would also read a sign, blanks, underscores and other scripts."""
    if not COUNT.fullmatch(text):
        raise ValueError("generation and sequence are whole numbers from 0 on")
    return int(text)
