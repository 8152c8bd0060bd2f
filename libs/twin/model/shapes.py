"""The OpenAI API's answers, as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from libs.twin.model.errors import BadRequest
from libs.twin.model.requests import Asked
from libs.twin.model.rules import Script

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """What every part of one answer says."""

    id: str
    created_s: int
    asked: Asked
    script: Script | None = None
    cached_tokens: int = 0

    def whole(self, text: str, finish_reason: str, completion_tokens: int) -> Json:
        """An answer that is not streamed."""
        choice: Json = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        if self._tool:
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [self._call(text)]}
        elif self.asked.is_chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.asked.is_chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": self.usage(completion_tokens)}

    def opening(self) -> Json:
        """The first chunk of a chat: who speaks, or what is called."""
        if self._tool:
            call = {"index": 0, **self._call("")}
            return self._chunk({"delta": {"role": "assistant", "content": None, "tool_calls": [call]}}, None, 0)
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None, 0)

    def chunk(self, token: str, completion_tokens: int) -> Json:
        """One token."""
        if self._tool:
            call = {"index": 0, "function": {"arguments": token}}
            return self._chunk({"delta": {"tool_calls": [call]}}, None, completion_tokens)
        said: Json = {"delta": {"content": token}} if self.asked.is_chat else {"text": token}
        return self._chunk(said, None, completion_tokens)

    def ending(self, finish_reason: str, completion_tokens: int) -> Json:
        """No token, but how it ended."""
        said: Json = {"delta": {}} if self.asked.is_chat else {"text": ""}
        return self._chunk(said, finish_reason, completion_tokens)

    def usage_chunk(self, completion_tokens: int) -> Json:
        """The last chunk, if usage was asked for: no choices."""
        return {**self._head(self._chunk_kind()), "choices": [], "usage": self.usage(completion_tokens)}

    def usage(self, completion_tokens: int) -> Json:
        """What was read, of that already known, and written."""
        return {
            "prompt_tokens": self.asked.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.asked.prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    @property
    def _tool(self) -> str:
        return self.script.tool if self.script else ""

    def _call(self, arguments: str) -> Json:
        function = {"name": self._tool, "arguments": arguments}
        return {"id": f"call_{self.id}", "type": "function", "function": function}

    def _chunk(self, said: Json, finish_reason: str | None, completion_tokens: int) -> Json:
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}
        chunk: Json = {**self._head(self._chunk_kind()), "choices": [choice]}
        if self.asked.include_usage and self.asked.continuous_usage:
            chunk["usage"] = self.usage(completion_tokens)
        return chunk

    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.asked.is_chat else "text_completion"

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.asked.model}


def error(wrong: BadRequest) -> Json:
    """An error."""
    return {"error": {"message": str(wrong), "type": wrong.kind, "param": wrong.param, "code": wrong.status}}


def models(names: tuple[str, ...], created_s: int, context_tokens: int) -> Json:
    """The list of models."""
    cards = [
        {
            "id": each,
            "object": "model",
            "created": created_s,
            "owned_by": "millrace",
            "root": each,
            "parent": None,
            "max_model_len": context_tokens,
        }
        for each in names
    ]
    return {"object": "list", "data": cards}
