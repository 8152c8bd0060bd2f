"""Server-sent events, read to the end of time: a connection that breaks is made anew from the last event's id."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from libs.client.transport import Json, Refused, Transport, Unreachable

RECONNECT_S: Final = 1.0
RECONNECTS_MAX: Final = 60  # In a row without an event: a minute of nobody there.


@dataclass(slots=True)
class _Frame:
    """An event that is being read, line by line."""

    id: str = ""
    event: str = "message"
    data: str = ""


def events(
    transport: Transport, path: str, *, last_event_id: str = "", pause: Callable[[float], None] = time.sleep
) -> Iterator[Json]:
    """Each event as ``{"id", "event", "data"}``. Raises Refused for good, Unreachable after a minute of nobody."""
    misses = 0
    while True:
        try:
            with transport.lines(path, last_event_id=last_event_id) as lines:
                for each in frames(lines):
                    misses = 0
                    last_event_id = each["id"] or last_event_id
                    yield each
        except Unreachable:
            misses += 1
            if misses > RECONNECTS_MAX:
                raise
        except Refused as refusal:
            misses += 1
            if not refusal.problem.get("retryable") or misses > RECONNECTS_MAX:
                raise
        pause(RECONNECT_S)


def frames(lines: Iterator[str]) -> Iterator[Json]:
    """The events in lines of ``text/event-stream``, as the HTML standard reads them; comments are dropped."""
    frame = _Frame()
    for line in lines:
        if not line:
            if frame.data:
                yield {"id": frame.id, "event": frame.event, "data": _json(frame.data)}
            frame = _Frame(id=frame.id)
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                frame.id = value
            case "event":
                frame.event = value
            case "data":
                frame.data = f"{frame.data}\n{value}" if frame.data else value


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
