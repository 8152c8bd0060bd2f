"""Engines without processes: they load as long as told, answer with a fixed text, and can be made to crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from libs.twin.answers import Response, answer, unavailable
from libs.twin.engines_port import EngineProcess, Launch
from libs.twin.model.adapters import LOAD, UNLOAD, Adapters
from libs.twin.model.errors import BadRequest
from libs.twin.model.shapes import error

ANSWER: Final = "the wheel turns while the water runs"
PROMPT_TOKENS: Final = 8
COMPLETION_TOKENS: Final = len(ANSWER.split())


@dataclass(slots=True)
class _Run:
    launch: Launch
    pid: int
    ready_ms: int
    ended_ms: int | None = None
    code: int = 0
    adapters: Adapters = field(default_factory=Adapters)


class FakeEngines:
    """The `Engines` port in memory: every course of events follows from the clock and from what a test orders."""

    def __init__(self, *, stop_ms: int = 0) -> None:
        self.stop_ms = stop_ms  # From being asked to end until it has ended.
        self.exit_on_start: int | None = None  # Set it, and every engine started ends at once with this code.
        self._runs: dict[str, _Run] = {}
        self._started = 0
        self._changed = False

    def is_free(self, address: str, port: int) -> bool:
        """Whether an engine could listen there."""
        return all((each.address, each.port) != (address, port) for each in self.running())

    def start(self, launch: Launch, now_ms: int) -> None:
        """Start; it is healthy after its load time."""
        assert launch.key not in self._runs, f"{launch.key} was started twice"
        self._started += 1
        run = _Run(launch, self._started, now_ms + launch.load_ms)
        if self.exit_on_start is not None:
            run.ended_ms, run.code = now_ms, self.exit_on_start
        self._runs[launch.key] = run

    def stop(self, key: str, *, grace_ms: int, now_ms: int) -> None:
        """Ask it to end; it takes `stop_ms`, or the grace if that is shorter."""
        run = self._runs.get(key)
        if run is None:
            return
        late_ms = now_ms + min(self.stop_ms, grace_ms)
        if run.ended_ms is None or run.ended_ms > late_ms:
            run.ended_ms, run.code = late_ms, 137 if grace_ms < self.stop_ms else 0

    def crash(self, address: str, now_ms: int, code: int = 1) -> None:
        """End the engine at an address, as a fault."""
        for run in self._runs.values():
            if run.launch.address == address and run.ended_ms is None:
                run.ended_ms, run.code = now_ms, code
                self._changed = True
                return
        raise KeyError(f"no engine runs at {address}")

    def exit_code(self, key: str, now_ms: int) -> int | None:
        """How it ended; None while it runs."""
        run = self._runs.get(key)
        if run is None:
            return 0
        return run.code if run.ended_ms is not None and now_ms >= run.ended_ms else None

    def is_healthy(self, key: str, now_ms: int) -> bool:
        """Whether its model is loaded."""
        run = self._runs.get(key)
        return run is not None and now_ms >= run.ready_ms

    def forget(self, key: str) -> None:
        """Its run is over and nobody will ask again."""
        self._runs.pop(key, None)

    def next_look_ms(self, key: str, now_ms: int) -> int | None:
        """When it becomes healthy or ends."""
        run = self._runs.get(key)
        if run is None:
            return None
        coming = [each for each in (run.ready_ms, run.ended_ms) if each is not None and each > now_ms]
        return min(coming, default=None)

    def take_changed(self) -> bool:
        """Whether a test made something crash since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def http(self, key: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer health, models, chat and completions; usage has a fixed size."""
        run = self._runs.get(key)
        if run is None or run.ended_ms is not None:
            raise unavailable("error trying to reach service: connection refused")
        del headers
        model = _served_model(run.launch)
        where = path.split("?")[0]
        if method == "POST" and where in (LOAD, UNLOAD):
            return _changed(run.adapters, where, body)
        known = (None, model, *run.adapters.loaded)
        if method == "POST" and model and (asked := json.loads(body).get("model")) not in known:
            return answer(_no_model(asked), 404)
        match method, where:
            case "GET", "/health":
                return Response(200, {}, b"")
            case "GET", "/v1/models":
                served = {"id": model or "model", "object": "model", "owned_by": "millrace"}
                return answer({"object": "list", "data": [served, *run.adapters.cards(model, 0)]})
            case "POST", "/v1/chat/completions":
                return answer(_completion(json.loads(body), "chat.completion"))
            case "POST", "/v1/completions":
                return answer(_completion(json.loads(body), "text_completion"))
        return answer(
            {"error": {"message": "Not Found", "type": "invalid_request_error", "param": None, "code": 404}}, 404
        )

    def running(self) -> tuple[EngineProcess, ...]:
        """Everything that runs now."""
        return tuple(
            EngineProcess(key, run.pid, run.launch.address, run.launch.port)
            for key, run in sorted(self._runs.items())
            if run.ended_ms is None
        )

    def launches(self) -> tuple[Launch, ...]:
        """What was started and not forgotten yet, for tests to look at."""
        return tuple(run.launch for _, run in sorted(self._runs.items()))

    def volumes(self) -> Path | None:
        """None: nothing here touches a disk."""
        return None

    def close(self) -> None:
        """End everything at once."""
        self._runs.clear()


def _served_model(launch: Launch) -> str:
    """The one name that it answers to; empty: to any, because its command line does not say."""
    args = (*launch.command, *launch.args)
    return args[args.index("--served-model-name") + 1] if "--served-model-name" in args else ""


def _changed(adapters: Adapters, where: str, body: bytes) -> Response:
    try:
        said = adapters.load(body) if where == LOAD else adapters.unload(body)
    except BadRequest as wrong:
        return answer(error(wrong), wrong.status)
    return Response(200, {"content-type": "text/plain"}, said.encode())


def _no_model(asked: object) -> dict[str, object]:
    message = f"The model `{asked}` does not exist."
    return {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}}


def _completion(request: Mapping[str, object], kind: str) -> dict[str, object]:
    choice: dict[str, object] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    if kind == "chat.completion":
        choice["message"] = {"role": "assistant", "content": ANSWER}
    else:
        choice["text"] = ANSWER
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": COMPLETION_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    }
    return {
        "id": "cmpl-fake",
        "object": kind,
        "created": 0,
        "model": request.get("model"),
        "choices": [choice],
        "usage": usage,
    }
