"""How a driver in Python runs: it is given where the router is, makes each call, and says a line of JSON for each."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

PROMPT: Final = "What is a millrace for?"
WEATHER: Final = "What is the weather in Paris"
PERSON: Final = "The miller is 41 and called Ann"
CITY: Final[Json] = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
}  # fmt: skip
SCHEMA: Final[Json] = {
    "type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"], "additionalProperties": False,
}  # fmt: skip
TOOL: Final[Json] = {"type": "function", "function": {"name": "get_weather", "description": "Now.", "parameters": CITY}}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the router is, and what is served there."""

    base_url: str
    key: str
    model: str
    limited: str  # An endpoint that takes two requests a minute.
    sound: str  # An endpoint that speaks and listens,
    spoken: str  # and what it is to say.
    limit: int
    long: int


def near(one: Sequence[float], other: Sequence[float]) -> float:
    """How alike two vectors of length one are."""
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def run(sdk: Callable[[Place], object]) -> None:
    """Make the calls that are named after the place, in that order: methods of what ``sdk`` makes of it."""
    known = sdk(Place(**json.loads(sys.argv[1])))
    for name in sys.argv[2:]:
        call = getattr(known, name, None)
        try:
            said = {"call": name, "result": call() if call else None}
        except Exception as wrong:  # Whatever an SDK raises is a finding.
            said = {"call": name, "failed": f"{type(wrong).__name__}: {wrong}"}
        print(json.dumps(said), flush=True)
