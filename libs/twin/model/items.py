"""`/v1/responses`: the request as a chat that it amounts to, and the answer as items and events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from libs.twin.model.errors import BadRequest
from libs.twin.model.requests import Asked, asked, parsed
from libs.twin.model.rules import Script

Json = dict[str, Any]
PARTS: Final = frozenset({"input_text", "output_text", "text", "refusal"})


def read_items(body: bytes, *, models: tuple[str, ...], context_tokens: int) -> tuple[Asked, Json]:
    """Read a request: as a chat, and as it was given. Raises BadRequest."""
    data = parsed(body)
    messages: list[Json] = []
    if data.get("instructions"):
        messages.append({"role": "system", "content": data["instructions"]})
    given = data.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    elif isinstance(given, list) and given:
        messages += [_message(each) for each in given]
    else:
        raise BadRequest("input must be a text or a list of at least one item", param="input")
    chat: Json = {
        **{name: data.get(name) for name in ("model", "temperature", "stream", "tools", "tool_choice")},
        "messages": messages,
        "max_tokens": data.get("max_output_tokens"),
        "response_format": (data.get("text") or {}).get("format"),
        "cache_salt": data.get("cache_salt"),
    }
    return asked(chat, is_chat=True, models=models, context_tokens=context_tokens), data


def _message(item: object) -> Json:
    if not isinstance(item, dict):
        raise BadRequest("each item of input is an object", param="input")
    match item.get("type", "message"):
        case "message":
            return {"role": item.get("role", "user"), "content": _text(item.get("content"))}
        case "function_call":
            return {"role": "assistant", "content": str(item.get("arguments", ""))}
        case "function_call_output":
            return {"role": "tool", "content": _text(item.get("output"))}
        case "reasoning":
            return {"role": "assistant", "content": ""}
        case kind:
            raise BadRequest(f"input items of type {kind} are not supported", param="input")


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(each, dict) and each.get("type") in PARTS for each in content):
        return "\n".join(str(each.get("text", "")) for each in content)
    raise BadRequest("content must be text, or a list of text parts", param="input")


@dataclass(frozen=True, slots=True)
class ItemHead:
    """What every part of one answer says: one item, a message or the call of a function."""

    id: str
    created_s: int
    asked: Asked
    given: Json
    script: Script | None
    cached_tokens: int

    def whole(self, text: str, finish_reason: str, completion_tokens: int) -> Json:
        """An answer that is not streamed."""
        status = "incomplete" if finish_reason == "length" else "completed"
        return self._response(status, [self._item(text, status)], completion_tokens)

    def opening(self) -> Iterable[Json]:
        """The events before the first token."""
        begun = self._response("in_progress", [], None)
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        yield {"type": "response.output_item.added", "output_index": 0, "item": self._item("", "in_progress")}
        if not self._tool:
            yield {"type": "response.content_part.added", **self._place, "content_index": 0, "part": _part("")}

    def chunk(self, token: str, completion_tokens: int) -> Json:
        """One token."""
        del completion_tokens
        if self._tool:
            return {"type": "response.function_call_arguments.delta", **self._place, "delta": token}
        return {"type": "response.output_text.delta", **self._place, "content_index": 0, "delta": token, "logprobs": []}

    def ending(self, text: str, finish_reason: str, completion_tokens: int) -> Iterable[Json]:
        """The events after the last token."""
        whole = self.whole(text, finish_reason, completion_tokens)
        if self._tool:
            yield {
                "type": "response.function_call_arguments.done", **self._place, "arguments": text, "name": self._tool,
            }  # fmt: skip
        else:
            place = {**self._place, "content_index": 0}
            yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
            yield {"type": "response.content_part.done", **place, "part": _part(text)}
        yield {"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]}
        yield {"type": f"response.{whole['status']}", "response": whole}

    @property
    def _tool(self) -> str:
        return self.script.tool if self.script else ""

    @property
    def _place(self) -> Json:
        return {"item_id": f"item_{self.id}", "output_index": 0}

    def _item(self, text: str, status: str) -> Json:
        if self._tool:
            return {
                "type": "function_call", "id": f"item_{self.id}", "call_id": f"call_{self.id}", "name": self._tool,
                "arguments": text, "status": status,
            }  # fmt: skip
        content = [_part(text)] if text else []
        return {
            "type": "message", "id": f"item_{self.id}", "role": "assistant", "status": status, "content": content,
        }  # fmt: skip

    def _response(self, status: str, output: list[Json], completion_tokens: int | None) -> Json:
        given = self.given
        return {
            "id": f"resp_{self.id}", "object": "response", "created_at": self.created_s, "status": status,
            "model": self.asked.model, "output": output, "error": None, "instructions": given.get("instructions"),
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "max_output_tokens": given.get("max_output_tokens"), "metadata": {}, "parallel_tool_calls": True,
            "temperature": given.get("temperature"), "top_p": given.get("top_p"), "tools": given.get("tools") or [],
            "tool_choice": given.get("tool_choice") or "auto",
            "text": given.get("text") or {"format": {"type": "text"}},
            "usage": None if completion_tokens is None else self._usage(completion_tokens),
        }  # fmt: skip

    def _usage(self, completion_tokens: int) -> Json:
        prompt_tokens = self.asked.prompt_tokens
        return {
            "input_tokens": prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt_tokens + completion_tokens,
        }


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def numbered(events: Iterable[Json], first: int) -> Iterable[bytes]:
    """Events as they go over the wire, each with its number."""
    for number, event in enumerate(events, first):
        text = json.dumps({**event, "sequence_number": number}, separators=(",", ":"))
        yield f"event: {event['type']}\ndata: {text}\n\n".encode()
