"""What a command is answered with, whichever door it came through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue, TypeAdapter

from libs.common.events.command import CommandAnswered

OBJECT: Final[TypeAdapter[dict[str, JsonValue]]] = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body as over HTTP; `body` is JSON text, so that a repeat is the same to the byte."""

    status: int
    body: str
    location: str = ""
    etag: str = ""
    about: str = ""

    def document(self) -> dict[str, JsonValue]:
        """The body as an object."""
        return OBJECT.validate_json(self.body)


Told = Callable[[Answer], CommandAnswered]
