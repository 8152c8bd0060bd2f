"""What a key may be used for, and from where; and what is said when a limit is reached: over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from libs.common import keys
from libs.common.bus.port import Message
from libs.common.client_address import client_address
from libs.common.clock import ManualClock
from libs.common.events.endpoint import Limits
from libs.common.events.tables import SliceEntry
from libs.common.ids import SystemEntropy
from libs.common.keys import address_of, networks_of
from services.router.core import openai
from services.router.core.surface import Api
from services.router.shell.limits.budgets import Budgets
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import (
    ENDPOINT,
    KEY,
    NAME,
    PROJECT,
    TENANT,
    Scene,
    a_request,
    a_route,
    a_scene,
    ask,
    chat_body,
    key_entry,
    tokens_in,
)

OF_KEY = f"{TENANT}.{PROJECT}.{KEY.key_id}"
T0 = 1_800_000_000_000  # In January 2027.
DEAD = "http://127.0.0.1:9"  # The discard port: nothing answers, so what gets past admission is a 502.
LONG = {"role": "user", "content": "word " * 80}
LIST = b"GET /v1/models HTTP/1.1\r\nhost: r\r\nauthorization: Bearer %s\r\n\r\n" % KEY.plaintext.encode()


def grant(scene: Scene, **changes: object) -> None:
    scene.gateway.keyring.change(KEY.key_id, key_entry(KEY).model_copy(update=changes))


def test_an_endpoint_that_the_key_may_not_use_does_not_exist_for_it() -> None:
    async def run() -> None:
        async with a_scene(DEAD) as scene:
            scene.serve(DEAD, name="other", endpoint="ep-b")
            grant(scene, models=("other",))

            refused, listed = await ask(scene.port, a_request(chat_body()), LIST)
            [absent] = await ask(
                scene.port, a_request(json.dumps({"model": "nix", "messages": [{"role": "user"}]}).encode())
            )

            assert (refused.status, refused.error["code"]) == (404, "model_not_found")
            assert {**refused.error, "message": ""} == {**absent.error, "message": ""}
            assert str(refused.error["message"]).replace(NAME, "nix") == absent.error["message"]
            assert [each["id"] for each in json.loads(listed.body)["data"]] == ["other"]

    asyncio.run(run())


def test_a_key_works_only_from_the_addresses_it_was_given() -> None:
    async def run() -> None:
        async with a_scene(DEAD) as scene:
            grant(scene, allowed_ips=("192.0.2.0/24",))
            said = b"x-forwarded-for: 192.0.2.7\r\n"

            [outside] = await ask(scene.port, LIST)
            [claimed] = await ask(scene.port, LIST.replace(b"\r\n\r\n", b"\r\n" + said + b"\r\n"))
            scene.gateway.trusted = networks_of(["127.0.0.0/8"])
            [inside] = await ask(scene.port, LIST.replace(b"\r\n\r\n", b"\r\n" + said + b"\r\n"))

            assert (outside.status, claimed.status, inside.status) == (401, 401, 200)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("limits", "kind"),
    [({"requests_per_minute": 1}, "requests"), ({"tokens_per_minute": 30}, "tokens")],
    ids=["requests", "tokens"],
)
def test_the_limits_of_a_key_hold_for_it_alone_and_within_those_of_all(limits: dict[str, int], kind: str) -> None:
    async def run() -> None:
        async with a_scene(DEAD) as scene:
            scene.serve(DEAD, limits=Limits(requests_per_minute=3))
            other = keys.mint(SystemEntropy())
            scene.gateway.keyring.change(other.key_id, key_entry(other))
            grant(scene, **limits)

            mine = [(await ask(scene.port, a_request(chat_body(max_tokens=16))))[0] for _ in range(2)]
            others = [
                (await ask(scene.port, a_request(chat_body(max_tokens=16), key=other.plaintext)))[0] for _ in range(3)
            ]

            assert [each.status for each in mine] == [502, 429]
            assert mine[1].error["type"] == kind
            assert mine[1].headers[f"x-ratelimit-limit-{kind}"] == str(*limits.values())
            assert [each.status for each in others] == [502, 502, 429]

    asyncio.run(run())


def test_a_key_with_a_budget_is_served_from_its_slice_and_no_other_key_is_asked_for_it() -> None:
    async def run() -> None:
        async with a_scene(DEAD) as scene:
            gateway = scene.gateway
            gateway.budgets = Budgets(gateway.quotas, ManualClock(T0), instance="r", boot_id="b")
            [free] = await ask(scene.port, a_request(chat_body()))
            grant(scene, budget=OF_KEY, tokens_per_month=100_000)

            [undrawn] = await ask(scene.port, a_request(chat_body()))
            for granted, left in ((5_000, 95_000), (0, 0)):
                entry = SliceEntry(budget=OF_KEY, period="2027-01", boot_id="b", granted=granted, left=left)
                gateway.budgets.change(f"r.{OF_KEY}", entry.model_dump_json().encode())
            [served] = await ask(scene.port, a_request(chat_body()))

            assert (free.status, served.status) == (502, 502)  # Both were let in.
            assert (undrawn.status, undrawn.error["code"]) == (429, "insufficient_quota")
            assert "budget of your key" in str(undrawn.error["message"])
            assert undrawn.headers["retry-after"] == "1"
            row, other = [each.slices for each in await scene.bills(2)]
            assert (row, other) == (None, (f"{OF_KEY}@2027-01",))

    asyncio.run(run())


def test_at_its_end_a_budget_serves_a_shorter_answer_and_says_so() -> None:
    async def run() -> None:
        async with running(Engine(tokens=500)) as engine, a_scene(engine.url) as scene:
            scene.serve(engine.url, limits=Limits(tokens_per_minute=200))
            budgets = scene.gateway.budgets = Budgets(scene.gateway.quotas, ManualClock(T0), instance="r", boot_id="b")
            grant(scene, budget=OF_KEY, tokens_per_month=100_000)
            granted = openai.bound(openai.read(Api.CHAT, chat_body(max_tokens=300)), 40)
            entry = SliceEntry(budget=OF_KEY, period="2027-01", boot_id="b", granted=granted, left=0)
            budgets.change(f"r.{OF_KEY}", entry.model_dump_json().encode())

            [served] = await ask(scene.port, a_request(chat_body(max_tokens=300)))
            [refused] = await ask(scene.port, a_request(chat_body(max_tokens=300, messages=[LONG])))

            assert (served.status, served.headers["x-millrace-max-tokens"]) == (200, "40")
            assert engine.requests[0]["max_tokens"] == tokens_in(served.body) == 40
            assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
            assert len(engine.requests) == 1

    asyncio.run(run())


def test_a_request_that_nobody_is_billed_for_takes_nothing_off_a_budget() -> None:
    async def run() -> None:
        async with a_scene(DEAD) as scene:
            budgets = Budgets(scene.gateway.quotas, ManualClock(T0), instance="r", boot_id="b")
            scene.gateway.budgets = budgets
            grant(scene, budget=OF_KEY, tokens_per_month=100_000)
            entry = SliceEntry(budget=OF_KEY, period="2027-01", boot_id="b", granted=50_000, left=50_000)
            budgets.change(f"r.{OF_KEY}", entry.model_dump_json().encode())
            long = [{"role": "user", "content": "word " * 2_000}]

            [failed] = await ask(scene.port, a_request(chat_body(messages=long)))

            row = await scene.bill()
            told: list[Message] = []

            async def take(messages: Sequence[Message]) -> int:
                told.extend(messages)
                return len(messages)

            await budgets.tell(take)
            [draw] = json.loads(told[-1].body)["draws"]
            assert (failed.status, row.prompt_tokens, row.completion_tokens) == (502, None, 0)
            assert draw["spent"] == 0

    asyncio.run(run())


def test_past_the_limit_of_a_minute_a_request_is_refused_in_openais_words() -> None:
    async def run() -> None:
        async with a_scene() as scene:
            route = a_route([DEAD]).model_copy(update={"limits": Limits(requests_per_minute=1)})
            scene.table.change(ENDPOINT, route.model_dump_json().encode())

            first, second = await ask(scene.port, a_request(chat_body()), a_request(chat_body()))

            assert first.status == 502
            assert (second.status, second.error["code"]) == (429, "rate_limit_exceeded")
            assert 1 <= int(second.headers["retry-after"]) <= 61
            assert second.headers["x-ratelimit-limit-requests"] == "1"
            assert second.headers["x-ratelimit-remaining-requests"] == "0"
            assert scene.table.live(ENDPOINT) == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("peer", "said", "found"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "junk", None),
        ("", "198.51.100.9", None),
    ],
)
def test_only_a_trusted_proxy_is_believed_whom_it_speaks_for(peer: str, said: str, found: str | None) -> None:
    assert client_address(peer, said, networks_of(["10.0.0.0/8"])) == (address_of(found) if found else None)
