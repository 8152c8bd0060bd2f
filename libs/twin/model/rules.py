"""What this model is made to say: a call of a tool, or JSON.

A tool is called where the request demands it, or where a user spoke last and said a word of the tool's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from libs.twin.model.errors import BadRequest
from libs.twin.model.filling import filled

Json = dict[str, Any]

TOOLS_MAX: Final = 128
_WORD: Final = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called."""

    name: str
    parameters: Json


@dataclass(frozen=True, slots=True)
class Script:
    """What is to be said instead of what the model would say; the arguments of a call if a ``tool`` is named."""

    text: str
    tool: str = ""


def tools_of(given: object) -> tuple[Tool, ...]:
    """The tools of a request: nested as in chat, or flat as in responses. Raises BadRequest."""
    if not given:
        return ()
    if not isinstance(given, list) or len(given) > TOOLS_MAX:
        raise BadRequest(f"tools must be a list of at most {TOOLS_MAX}", param="tools")
    found = []
    for each in given:
        inner = each.get("function", each) if isinstance(each, dict) and each.get("type") == "function" else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise BadRequest("each tool is a function with a name", param="tools")
        found.append(Tool(inner["name"], inner.get("parameters") or {}))
    return tuple(found)


def script_of(
    *, tools: Sequence[Tool], choice: object, prompt: str, last_role: str, wants: Json | None, answer: Iterable[str]
) -> Script | None:
    """What the rules make of a request; None if the model may say what it likes.

    ``wants`` is the format that the answer must have, ``answer`` what the model would say.
    """
    tool = _called(tools, choice, prompt, last_role)
    if tool is not None:
        return Script(json.dumps(filled(tool.parameters, prompt)), tool.name)
    kind = (wants or {}).get("type", "text")
    if wants is None or kind == "text":
        return None
    if kind == "json_object":
        return Script(json.dumps({"answer": "".join(answer).strip()}))
    if kind == "json_schema":
        schema = wants.get("json_schema", wants).get("schema")
        if not isinstance(schema, dict):
            raise BadRequest("response_format.json_schema.schema must be an object", param="response_format")
        return Script(json.dumps(filled(schema, prompt)))
    raise BadRequest("response_format.type must be text, json_object or json_schema", param="response_format")


def _called(tools: Sequence[Tool], choice: object, prompt: str, last_role: str) -> Tool | None:
    if isinstance(choice, dict):
        name = choice.get("function", choice).get("name")
        named = next((each for each in tools if each.name == name), None)
        if named is None:
            raise BadRequest("tool_choice names no tool of the request", param="tool_choice")
        return named
    if choice == "none" or not tools:
        return None
    said = set(_WORD.findall(prompt.lower()))
    asked_for = next((each for each in tools if said & set(_WORD.findall(each.name.lower()))), None)
    if choice == "required":
        return asked_for or tools[0]
    return asked_for if last_role == "user" else None
