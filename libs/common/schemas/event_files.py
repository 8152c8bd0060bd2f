"""The JSON Schema of every event version, of every command and of every bucket's values, each with an example."""

from __future__ import annotations

import json
from typing import Any, Final

from libs.common.bus.streams import subject_filter
from libs.common.events.catalog import EVENTS
from libs.common.events.envelope import type_of
from libs.common.events.event import Event
from libs.common.events.examples import WHEN_MS, examples

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
EXAMPLE_ID: Final = "0b6d5c2e-6a53-5d53-8a0e-0a3c7f6f2f11"
EXAMPLE_TIME: Final = "2027-01-15T08:00:00.000Z"


def event_schemas() -> dict[str, str]:
    """The schemas of all events, by their path below `schemas/`."""
    return {f"{path_of(kind)}.json": as_json(schema_of(kind)) for kind in EVENTS.values()}


def event_examples() -> dict[str, str]:
    """The examples beside them."""
    return {f"{path_of(kind)}.example.json": as_json(example_of(kind)) for kind in EVENTS.values()}


def path_of(kind: type[Event]) -> str:
    """Where the files of an event version are, without their ending."""
    return f"events/{kind.owner}/{kind.kind}/v{kind.version}"


def schema_of(kind: type[Event]) -> dict[str, Any]:
    """The schema of an event's data."""
    return {
        "$schema": DIALECT,
        "$id": f"schemas/{path_of(kind)}.json",
        "x-cloudevents-type": type_of(kind),
        "x-subject": subject_filter(kind),
        "x-fact": {"fact": str(kind.fact), "holds": kind.holds} if kind.fact else None,
        **kind.model_json_schema(mode="validation"),
    }


def example_of(kind: type[Event]) -> dict[str, Any]:
    """An event as a CloudEvent in structured form: what binary mode has in headers stands beside `data`."""
    data = next(each for each in examples() if type(each) is kind)
    return {
        "specversion": "1.0",
        "id": EXAMPLE_ID,
        "type": type_of(kind),
        "source": f"/{kind.owner}",
        "subject": getattr(data, "instance", "ep-7f3akq2xpd"),
        "time": EXAMPLE_TIME,
        "generation": 1,
        "sequence": WHEN_MS % 7 + 1,
        "data": data.model_dump(mode="json"),
    }


def as_json(value: object) -> str:
    """The text of a JSON file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
