"""Prompts and answers are in memory only: what was said is looked for in every place that any of the six writes to."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest

from libs.cli import local
from libs.common.events.usage import Meter
from tests.e2e.local_profile import Profile, wait_until
from tests.support.canary import files, sightings
from tests.support.web import NO_TLS

pytestmark = pytest.mark.xdist_group("profile")

SERVICES: Final = {
    "router", "metering", "endpoint-api", "capacity-manager", "runtime-deployer", "autoscaler",
}  # fmt: skip
KEPT: Final = {"credentials.json", "bootstrap.json"}  # Where a key is on purpose; nothing that was said is.


@dataclass(slots=True)
class Speaker:
    """Says something unique in every way that a client can, right or wrong."""

    profile: Profile
    model: str
    said: dict[str, str] = field(default_factory=dict)
    refusals: list[bytes] = field(default_factory=list)

    def canary(self, way: str) -> str:
        self.said[way] = f"canary{secrets.token_hex(13)}"
        return self.said[way]

    def post(self, path: str, body: object, *, key: str = "", **more: Any) -> httpx.Response:
        key = key or self.profile.credentials.key
        headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{self.profile.credentials.router_url}{path}"
        return httpx.post(url, content=content, headers=headers, **{"timeout": 30, **more}, verify=NO_TLS)

    def chat(self, way: str, **more: Any) -> dict[str, Any]:
        return {"model": self.model, "max_tokens": 4, "messages": [self.message(way)], **more}

    def message(self, way: str) -> dict[str, str]:
        return {"role": "user", "content": f"Say {self.canary(way)}"}

    def speak(self) -> int:
        """All of it; how many requests the engine was to answer."""
        echo = {"type": "object", "properties": {"word": {"type": "string"}}}
        tool = {"type": "function", "function": {"name": "say_it", "parameters": echo}}
        body = self.chat("waits", max_tokens=60)
        schema = {"type": "object", "properties": {"word": {"const": self.said["waits"]}}}
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}
        answer = self.post("/chat/completions", body)
        assert self.said["waits"] in answer.text, answer.text  # The answer has it too.
        served = [
            self.post("/chat/completions", self.chat("streams", stream=True)),
            self.post("/embeddings", {"model": self.model, "input": self.canary("embeds")}),
            self.post("/responses", {"model": self.model, "input": self.canary("responds"), "max_output_tokens": 4}),
            self.post("/responses", {"model": self.model, "input": self.canary("streams items"), "stream": True}),
            self.post("/chat/completions", self.chat("calls a tool", tools=[tool], tool_choice="required")),
            self.post("/chat/completions", self.chat("header"), headers={"x-note": self.canary("a header")}),
            self.post(f"/chat/completions?note={self.canary('a query')}", self.chat("query")),
        ]
        assert {each.status_code for each in served} == {200}
        self._leave()
        self._err()
        return len(served) + 3

    def _leave(self) -> None:
        url, key = self.profile.credentials.router_url, self.profile.credentials.key
        body = self.chat("leaves", stream=True, max_tokens=2000, ignore_eos=True)
        headers = {"authorization": f"Bearer {key}"}
        with httpx.stream(
            "POST", f"{url}/chat/completions", json=body, headers=headers, timeout=30, verify=NO_TLS
        ) as answer:
            next(answer.iter_lines())
        late = self.chat("times out", max_tokens=2000, ignore_eos=True)
        with pytest.raises(httpx.ReadTimeout):
            self.post("/chat/completions", late, timeout=0.4)

    def _err(self) -> None:
        wrong_type = self.chat("wrong type", max_tokens=self.canary("wrong value"))
        asked = {
            "unknown model": ("/chat/completions", self.chat("unknown model", model="nobodys")),
            "unknown field": ("/chat/completions", self.chat("unknown field", cache_salt=self.canary("a field"))),
            "wrong type": ("/chat/completions", wrong_type),
            "half a body": ("/chat/completions", json.dumps(self.chat("half a body")).encode()[:-1]),
            "too long": ("/chat/completions", self.chat("too long", max_tokens=100_000)),
            "wrong address": (f"/{self.canary('wrong address')}", {}),
        }
        for way, (path, body) in asked.items():
            answer = self.post(path, body)
            assert 400 <= answer.status_code < 500, (way, answer.text)
            if way != "wrong address":
                self.refusals.append(answer.content)
        self.refusals.append(self.post("/chat/completions", self.chat("wrong key"), key="sk-nonsense").content)


def pages(profile: Profile) -> Iterator[tuple[str, bytes]]:
    """What every process tells operators."""
    for each in local.health(profile.home):
        if each.name in SERVICES:
            yield each.name, httpx.get(each.url.replace("/readyz", "/metrics"), timeout=30, verify=NO_TLS).content


def test_nothing_that_was_said_is_written_down_anywhere(profile: Profile, endpoints: dict[str, str]) -> None:
    speaker = Speaker(profile, "served")
    before = requests_of(profile, endpoints["served"])

    served = speaker.speak()

    wait_until(lambda: requests_of(profile, endpoints["served"]) >= before + served, "not all of it was billed")
    found = files(profile.home.path)
    told = dict(pages(profile))
    assert {f"logs/{each}.log" for each in SERVICES} <= set(found)
    assert {"usage-journal.db", "router.db", "metering.db", "endpoint_api.db"} <= set(found)
    assert any(name.endswith(".blk") for name in found), "the broker's store is not looked into"
    assert set(told) == SERVICES
    refusals = {f"refusal {number}": text for number, text in enumerate(speaker.refusals)}
    assert list(sightings({**found, **told, **refusals}, speaker.said.values())) == []


def test_no_key_is_written_down_but_where_its_owner_is_to_find_it(profile: Profile, served: str) -> None:
    assert served
    found = {name: text for name, text in files(profile.home.path).items() if name not in KEPT}

    assert list(sightings({**found, **dict(pages(profile))}, [profile.credentials.key])) == []


def requests_of(profile: Profile, endpoint_id: str) -> int:
    """How many requests of the endpoint the ledger has."""
    items = profile.client.usage("/v1/usage", query={"endpoint": endpoint_id})["items"]
    return sum(each["quantity"] for each in items if each["meter"] == Meter.REQUESTS)
