"""OpenAI's own package for Python, put through the list."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import openai

from tests.interop.sdks.driving import PERSON, PROMPT, SCHEMA, TOOL, WEATHER, Json, Place, near, run


def refused(ask: Callable[[], object]) -> Json:
    """What the SDK raises."""
    try:
        ask()
    except openai.APIStatusError as wrong:
        headers = wrong.response.headers
        return {
            "status": wrong.status_code, "code": wrong.code, "param": wrong.param, "kind": type(wrong).__name__,
            "retry_after": headers.get("retry-after"), "remaining": headers.get("x-ratelimit-remaining-requests"),
        }  # fmt: skip
    raise AssertionError("it was not refused")


class OpenAiCalls:
    """All calls of the list."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.api = openai.OpenAI(base_url=place.base_url, api_key=place.key, max_retries=0)

    def _ask(self, text: str = PROMPT, **more: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return self.api.chat.completions.create(**{"model": self.place.model, "messages": messages, **more})

    def _limited(self, **more: Any) -> Any:
        return self._ask(model=self.place.limited, max_tokens=1, **more)

    def _chatted(self, answer: Any) -> Json:
        usage, choice = answer.usage, answer.choices[0]
        return {
            "text": choice.message.content, "prompt_tokens": usage.prompt_tokens, "finish": choice.finish_reason,
            "completion_tokens": usage.completion_tokens,
        }  # fmt: skip

    def _streamed(self, **more: Any) -> Json:
        pieces, finish, usage = 0, None, None
        for chunk in self._ask(stream=True, max_tokens=self.place.limit, extra_body={"ignore_eos": True}, **more):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces += bool(choice.delta.content)
                finish = choice.finish_reason or finish
        return {"pieces": pieces, "finish": finish, "completion_tokens": usage and usage.completion_tokens}

    def rate_limited(self) -> Json:
        self._limited()
        self._limited()
        return refused(self._limited)

    def list_models(self) -> Json:
        ids = [each.id for each in self.api.models.list()]
        found = self.api.models.retrieve(self.place.model).id
        return {"ids": ids, "wanted": [self.place.model, self.place.limited], "found": found}

    def chat(self) -> Json:
        return self._chatted(self._ask())

    def stream(self) -> Json:
        return self._streamed()

    def stream_with_usage(self) -> Json:
        return self._streamed(stream_options={"include_usage": True})

    def tools(self) -> Json:
        call = self._ask(WEATHER, tools=[TOOL]).choices[0].message.tool_calls[0].function
        return {"tool": call.name, "arguments": json.loads(call.arguments)}

    def tools_streamed(self) -> Json:
        tools: Any = [TOOL]
        with self.api.chat.completions.stream(
            model=self.place.model, messages=[{"role": "user", "content": WEATHER}], tools=tools
        ) as events:
            events.until_done()
            [call] = events.get_final_completion().choices[0].message.tool_calls or []
        return {"tool": call.function.name, "arguments": json.loads(call.function.arguments)}

    def tool_answered(self) -> Json:
        said = self._ask(WEATHER, tools=[TOOL]).choices[0].message
        history = [{"role": "user", "content": WEATHER}, said.model_dump(exclude_none=True)]
        history.append({"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "Rain."})
        return self._chatted(self._ask(messages=history, tools=[TOOL]))

    def json_mode(self) -> Json:
        return {"text": self._ask(response_format={"type": "json_object"}).choices[0].message.content}

    def json_schema(self) -> Json:
        wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
        return {"value": json.loads(self._ask(PERSON, response_format=wanted).choices[0].message.content)}

    def embeddings(self) -> Json:
        found = self.api.embeddings.create(model=self.place.model, input=["the mill", "the mill", "an ox"]).data
        one, same, other = (each.embedding for each in found)
        return {"count": 3, "dimensions": len(one), "same": near(one, same), "other": near(one, other)}

    def responses(self) -> Json:
        place = self.place
        said = self.api.responses.create(model=place.model, input=PROMPT, max_output_tokens=place.limit)
        assert said.usage is not None
        return {"text": said.output_text, "output_tokens": said.usage.output_tokens}

    def responses_streamed(self) -> Json:
        place, text, tokens = self.place, "", 0
        for event in self.api.responses.create(
            model=place.model, input=PROMPT, max_output_tokens=place.limit, stream=True
        ):
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type in ("response.completed", "response.incomplete") and event.response.usage:
                tokens = event.response.usage.output_tokens
        return {"text": text, "output_tokens": tokens}

    def sound(self) -> Json:
        audio, place = self.api.audio, self.place
        spoken = audio.speech.create(model=place.sound, voice="tones", input=place.spoken, response_format="wav")
        file = ("spoken.wav", spoken.read())
        heard = audio.transcriptions.create(model=place.sound, file=file)
        as_text = audio.transcriptions.create(model=place.sound, file=file, response_format="text")
        return {"heard": heard.text, "as_text": as_text}

    def no_sound(self) -> Json:
        return refused(lambda: self.api.audio.speech.create(model=self.place.model, voice="tones", input="a"))

    def timeout(self) -> Json:
        try:
            self._ask(max_tokens=self.place.long, extra_body={"ignore_eos": True}, timeout=0.5)
        except openai.APITimeoutError:
            return {"error": "timeout"}
        raise AssertionError("it came in time")

    def cancelled_mid_stream(self) -> Json:
        seen = 0
        with self._ask(stream=True, max_tokens=self.place.long, extra_body={"ignore_eos": True}) as chunks:
            for chunk in chunks:
                seen += bool(chunk.choices[0].delta.content)
                if seen == 3:
                    break
        return {"seen": seen}

    def wrong_key(self) -> Json:
        stranger = self.api.with_options(api_key="sk-nonsense").chat.completions
        return refused(lambda: stranger.create(model=self.place.model, messages=[]))

    def unknown_model(self) -> Json:
        return refused(lambda: self._ask(model="nobodys"))

    def unknown_field(self) -> Json:
        return refused(lambda: self._ask(extra_body={"cache_salt": "x"}))

    def retried(self) -> Json:
        left_s = float(refused(self._limited)["retry_after"])
        began_s = time.monotonic()
        answer = self.api.with_options(max_retries=1).chat.completions.create(
            model=self.place.limited, messages=[{"role": "user", "content": PROMPT}], max_tokens=1
        )
        waited_s = time.monotonic() - began_s
        return {"waited_s": waited_s, "retry_after": left_s, "text": answer.choices[0].message.content}


if __name__ == "__main__":
    run(OpenAiCalls)
