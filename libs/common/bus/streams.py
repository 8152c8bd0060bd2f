"""Every stream, bucket and consumer, declared once: `provision` makes them so, services only bind to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from libs.common.bus.port import Message
from libs.common.events.catalog import EVENTS, heard_by
from libs.common.events.envelope import Envelope, to_body, to_headers
from libs.common.events.event import Event, Owner
from libs.common.ids import partition
from libs.common.units import DAY_S, GIB, HOUR_S, KIB, MIB, MINUTE_S

EVT: Final = "MR_EVT"
CMD: Final = "MR_CMD"
USAGE: Final = "MR_USAGE"
LOAD: Final = "MR_LOAD"
DLQ: Final = "MR_DLQ"

ROUTES: Final = "routes"
KEYS: Final = "keys"
QUOTAS: Final = "quotas"
SLICES: Final = "slices"
HOSTS: Final = "hosts"
COUNTS: Final = "counts"
CONFIRMED: Final = "confirmed"

DEDUPE_S: Final = 10 * MINUTE_S  # Longer than any relay's retry after an outage it survives; costs memory by rate.


class Retention(StrEnum):
    """When a stream forgets."""

    LIMITS = "limits"
    WORK_QUEUE = "workqueue"


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream with its whole configuration. `discard new`: a full stream refuses, it never forgets silently."""

    name: str
    subjects: tuple[str, ...]
    max_age_s: int
    max_bytes: int
    retention: Retention = Retention.LIMITS
    max_msg_size_bytes: int = 256 * KIB
    max_msgs_per_subject: int = -1
    dedupe_s: int = DEDUPE_S


@dataclass(frozen=True, slots=True)
class Bucket:
    """A key-value bucket: the last values of a stream."""

    name: str
    history: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable pull consumer with explicit acks."""

    name: str
    stream: str
    filter_subjects: tuple[str, ...]
    ack_wait_s: int = 30
    max_ack_pending: int = 256
    # The broker never gives up by itself: a message leaves by an Ack, or by our own dead letter with its reason.
    max_deliver: int = -1


STREAMS: Final = (
    Stream(EVT, ("mr.v1.evt.>",), max_age_s=90 * DAY_S, max_bytes=20 * GIB),
    # One copy of each command waits: the last token is its id. Commands on one endpoint are not in order (decision 5).
    Stream(CMD, ("mr.v1.cmd.>",), 1 * DAY_S, 1 * GIB, retention=Retention.WORK_QUEUE, max_msgs_per_subject=1),
    # What was served: the bills, and beside them, as they are far fewer, uses of keys and draws on budgets.
    Stream(USAGE, ("mr.v1.usage.>", "mr.v1.keyuse.>", "mr.v1.draw.>"), max_age_s=14 * DAY_S, max_bytes=50 * GIB),
    # Load reports are worth minutes: an autoscaler that was away must not act on old traffic.
    Stream(LOAD, ("mr.v1.load.>",), max_age_s=10 * MINUTE_S, max_bytes=64 * MIB, dedupe_s=2 * MINUTE_S),
    # Larger messages than any other stream: a dead letter is the whole message and why.
    Stream(DLQ, ("mr.v1.dlq.>",), 180 * DAY_S, 5 * GIB, max_msg_size_bytes=272 * KIB, dedupe_s=1 * HOUR_S),
)

BUCKETS: Final = (
    Bucket(ROUTES, history=5, max_bytes=256 * MIB),
    Bucket(KEYS, history=1, max_bytes=1 * GIB),
    Bucket(QUOTAS, history=1, max_bytes=64 * MIB),
    Bucket(SLICES, history=1, max_bytes=64 * MIB),
    # Routers of several hosts to each other: each key is written again and again by one of them.
    Bucket(HOSTS, history=1, max_bytes=64 * MIB),
    Bucket(COUNTS, history=1, max_bytes=64 * MIB),
    Bucket(CONFIRMED, history=1, max_bytes=64 * MIB),
)

# Events that travel in a stream of their own rather than in EVT, with the first tokens of their subject there.
OWN_STREAM: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "usage.reported": (USAGE, "mr.v1.usage"),
        "key.used": (USAGE, "mr.v1.keyuse"),
        "budget.drawn": (USAGE, "mr.v1.draw"),
        "traffic.observed": (LOAD, "mr.v1.load"),
    }
)


def stream_of(kind: type[Event]) -> str:
    """The stream that an event travels in."""
    return OWN_STREAM.get(kind.kind, (EVT, ""))[0]


def subject_filter(kind: type[Event]) -> str:
    """The subjects on which an event may appear, whoever it is about."""
    own = OWN_STREAM.get(kind.kind)
    if own is not None:
        return f"{own[1]}.>"
    return f"mr.v1.evt.{kind.owner}.{kind.kind.replace('.', '-').replace('_', '-')}.>"


def message_of(envelope: Envelope) -> Message:
    """The bus message of an event: ``mr.v1.evt.<owner>.<event>.p<00-15>.<id>``: a permission sees the owner."""
    own = OWN_STREAM.get(envelope.data.kind)
    if own is not None:
        subject = f"{own[1]}.{envelope.subject}"
    else:
        prefix = subject_filter(type(envelope.data)).removesuffix(".>")
        subject = f"{prefix}.{partition(envelope.subject)}.{envelope.subject}"
    return Message(
        id=envelope.id,
        stream=stream_of(type(envelope.data)),
        subject=subject,
        body=to_body(envelope),
        headers=to_headers(envelope),
    )


def _consumers() -> tuple[Consumer, ...]:
    found: list[Consumer] = []
    for owner in Owner:
        by_stream: dict[str, list[str]] = {}
        for kind in heard_by(owner):
            by_stream.setdefault(stream_of(kind), []).append(subject_filter(kind))
        for stream, subjects in sorted(by_stream.items()):
            # Services are named by what they hear: `metering-usage` drinks MR_USAGE.
            name = f"{owner}-{stream.removeprefix('MR_').lower()}"
            found.append(Consumer(name, stream, tuple(sorted(subjects))))
    # Commands are no events: nobody owns them but whoever answers.
    return (*found, Consumer(f"{Owner.ENDPOINT_API}-cmd", CMD, ("mr.v1.cmd.>",)))


CONSUMERS: Final = _consumers()


def consumers_of(owner: Owner) -> tuple[Consumer, ...]:
    """The durable consumers that a service binds to."""
    return tuple(each for each in CONSUMERS if each.name.startswith(f"{owner}-"))


assert set(OWN_STREAM) <= {kind.kind for kind in EVENTS.values()}
