"""LangChain's OpenAI classes, put through the list in a venv of their own."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
from langchain_core.messages import HumanMessage, ToolMessage  # type: ignore[import-not-found]
from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # type: ignore[import-not-found]

from tests.interop.sdks.driving import PERSON, PROMPT, SCHEMA, TOOL, WEATHER, Json, Place, near, run
from tests.interop.sdks.openai_python import refused


class LangChainCalls:
    """Those calls of the list that LangChain has; it lists no models."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.where = {"base_url": place.base_url, "api_key": place.key}
        self.long = {"max_tokens": place.long, "extra_body": {"ignore_eos": True}}

    def _model(self, **more: Any) -> Any:
        return ChatOpenAI(**{"model": self.place.model, "max_retries": 0, **self.where, **more})

    def _limited(self, **more: Any) -> Any:
        return self._model(model=self.place.limited, max_tokens=1, **more).invoke(PROMPT)

    def _chatted(self, answer: Any) -> Json:
        usage = answer.usage_metadata
        return {
            "text": answer.content, "finish": answer.response_metadata["finish_reason"],
            "prompt_tokens": usage["input_tokens"], "completion_tokens": usage["output_tokens"],
        }  # fmt: skip

    def _streamed(self, *, usage: bool) -> Json:
        asked = self._model(max_tokens=self.place.limit, extra_body={"ignore_eos": True}, stream_usage=usage)
        pieces, finish, counted = 0, None, None
        for chunk in asked.stream(PROMPT):
            pieces += bool(chunk.content)
            finish = chunk.response_metadata.get("finish_reason") or finish
            counted = chunk.usage_metadata["output_tokens"] if chunk.usage_metadata else counted
        return {"pieces": pieces, "finish": finish, "completion_tokens": counted}

    def _whole(self, asked: Any, text: str) -> Any:
        whole = None
        for chunk in asked.stream(text):
            whole = chunk if whole is None else whole + chunk
        return whole

    def rate_limited(self) -> Json:
        self._limited()
        self._limited()
        return refused(self._limited)

    def chat(self) -> Json:
        return self._chatted(self._model().invoke(PROMPT))

    def stream(self) -> Json:
        return self._streamed(usage=False)

    def stream_with_usage(self) -> Json:
        return self._streamed(usage=True)

    def tools(self) -> Json:
        [call] = self._model().bind_tools([TOOL]).invoke(WEATHER).tool_calls
        return {"tool": call["name"], "arguments": call["args"]}

    def tools_streamed(self) -> Json:
        [call] = self._whole(self._model().bind_tools([TOOL]), WEATHER).tool_calls
        return {"tool": call["name"], "arguments": call["args"]}

    def tool_answered(self) -> Json:
        asked = self._model().bind_tools([TOOL])
        said = asked.invoke(WEATHER)
        answer = ToolMessage("Rain.", tool_call_id=said.tool_calls[0]["id"])
        return self._chatted(asked.invoke([HumanMessage(WEATHER), said, answer]))

    def json_mode(self) -> Json:
        return {"text": json.dumps(self._model().with_structured_output(None, method="json_mode").invoke(PROMPT))}

    def json_schema(self) -> Json:
        wanted = {"title": "person", "description": "Somebody.", **SCHEMA}
        return {"value": self._model().with_structured_output(wanted, method="json_schema").invoke(PERSON)}

    def embeddings(self) -> Json:
        maker = OpenAIEmbeddings(model=self.place.model, check_embedding_ctx_length=False, **self.where)
        one, same, other = maker.embed_documents(["the mill", "the mill", "an ox"])
        return {"count": 3, "dimensions": len(one), "same": near(one, same), "other": near(one, other)}

    def responses(self) -> Json:
        said = self._model(use_responses_api=True, max_tokens=self.place.limit).invoke(PROMPT)
        return {"text": said.text, "output_tokens": said.usage_metadata["output_tokens"]}

    def responses_streamed(self) -> Json:
        said = self._whole(self._model(use_responses_api=True, max_tokens=self.place.limit), PROMPT)
        return {"text": said.text, "output_tokens": said.usage_metadata["output_tokens"]}

    def timeout(self) -> Json:
        try:
            self._model(timeout=0.5, **self.long).invoke(PROMPT)
        except openai.APITimeoutError:
            return {"error": "timeout"}
        raise AssertionError("it came in time")

    def cancelled_mid_stream(self) -> Json:
        seen = 0
        chunks = self._model(**self.long).stream(PROMPT)
        for chunk in chunks:
            seen += bool(chunk.content)
            if seen == 3:
                break
        chunks.close()
        return {"seen": seen}

    def wrong_key(self) -> Json:
        return refused(lambda: self._model(api_key="sk-nonsense").invoke(PROMPT))

    def unknown_model(self) -> Json:
        return refused(lambda: self._model(model="nobodys").invoke(PROMPT))

    def unknown_field(self) -> Json:
        return refused(lambda: self._model(extra_body={"cache_salt": "x"}).invoke(PROMPT))

    def retried(self) -> Json:
        left_s = float(refused(self._limited)["retry_after"])
        began_s = time.monotonic()
        answer = self._limited(max_retries=1)
        return {"waited_s": time.monotonic() - began_s, "retry_after": left_s, "text": answer.content}


if __name__ == "__main__":
    run(LangChainCalls)
