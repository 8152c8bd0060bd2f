"""A budget, its last tokens, and many who want them at once, with real processes that are killed meanwhile."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import httpx
import pytest

from libs.common.bus.port import Message, bucket_put
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import KEYS, QUOTAS, SLICES
from libs.common.events.tables import QuotaEntry
from services.metering.core.money import UNLIMITED
from tests.integration.metered import Scene, put, until
from tests.support.nats import nats_server
from tests.support.web import NO_TLS
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import KEY, NAME, PROJECT, TENANT, key_entry

__all__ = ["nats_server"]

LIMIT: Final = 20_000
CLIENTS: Final = 8
MAX_TOKENS: Final = 200
PROMPT_NANO, COMPLETION_NANO = 50, 200  # Of a token; the dearest is the other one's fourfold.
PRICES: Final = """
version: 1
id: test-1
currency: EUR
prices:
  - { meter: prompt_tokens, price: "0.05", per: million }
  - { meter: completion_tokens, price: "0.20", per: million }
"""


class Edge:
    """Clients that ask until the budget is spent."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.refusals: list[httpx.Response] = []
        self.served = 0
        self.owed = [0, 0]  # Tokens of prompts and completions that were answered for.

    async def ask(self, web: httpx.AsyncClient) -> bool:
        """Ask once; whether it is worth to ask again."""
        body = {"model": NAME, "messages": [{"role": "user", "content": "hi"}], "max_tokens": MAX_TOKENS}
        try:
            answer = await web.post(f"http://127.0.0.1:{self.scene.port}/v1/chat/completions", json=body, timeout=60)
        except httpx.TransportError:
            await asyncio.sleep(0.1)  # The router died, or is not yet up again.
            return True
        if answer.status_code == 200:
            self.served += 1
            usage = json.loads(answer.content)["usage"]
            self.owed[0] += usage["prompt_tokens"]
            self.owed[1] += usage["completion_tokens"]
            return True
        if answer.status_code != 429:
            await asyncio.sleep(0.1)
            return True
        self.refusals.append(answer)
        await asyncio.sleep(float(answer.headers.get("retry-after", 0)))
        return "retry-after" in answer.headers

    async def client(self) -> None:
        async with httpx.AsyncClient(verify=NO_TLS, headers={"authorization": f"Bearer {KEY.plaintext}"}) as web:
            while await self.ask(web):
                pass


def told(entry: QuotaEntry, *, is_of_key: bool) -> Message:
    """The limit as its owner tells it: of the project, or of the clients' key."""
    if not is_of_key:
        value = entry.model_dump_json().encode()
        return bucket_put(bucket=QUOTAS, key=f"{TENANT}.{PROJECT}", value=value, id="budget")
    limits = entry.model_dump(include={"tokens_per_month", "money_per_month_nano"})
    key = key_entry(KEY).model_copy(update={"budget": f"{TENANT}.{PROJECT}.{KEY.key_id}", **limits})
    return bucket_put(bucket=KEYS, key=key.key_id, value=key.model_dump_json().encode(), id="budget")


@pytest.mark.chaos
@pytest.mark.xdist_group("metered")
@pytest.mark.parametrize(
    ("is_money", "is_of_key"), [(False, False), (True, False), (True, True)], ids=["tokens", "money", "a key's money"]
)
async def test_a_budget_is_spent_to_its_end_and_never_beyond(
    nats_server: NatsServer, tmp_path: Path, is_money: bool, is_of_key: bool
) -> None:
    scene = Scene(nats_server, tmp_path)
    (tmp_path / "prices.yaml").write_text(PRICES)
    scene.metering.env["PRICES_FILE"] = str(tmp_path / "prices.yaml")
    prices, limit = (1, 1), LIMIT
    entry = QuotaEntry(tenant_id=TENANT, project_id=PROJECT, tokens_per_month=LIMIT)
    if is_money:
        prices, limit = (PROMPT_NANO, COMPLETION_NANO), LIMIT * COMPLETION_NANO
        entry = entry.model_copy(update={"tokens_per_month": UNLIMITED, "money_per_month_nano": limit})
    async with running(Engine(tokens=1000, delay_s=0.001)) as engine:
        try:
            await scene.start(engine.url)
            stream = scene.client.jetstream()
            before = (await stream.stream_info(f"KV_{SLICES}")).state.last_seq

            async def is_granted() -> bool:
                return (await stream.stream_info(f"KV_{SLICES}")).state.last_seq > before

            await put(stream.publish, told(entry, is_of_key=is_of_key))
            await until(is_granted, "the router does not draw on its budget")  # What comes before it heard is free.
            edge = Edge(scene)
            clients = [asyncio.create_task(edge.client()) for _ in range(CLIENTS)]
            await until(lambda: edge.served >= 5, "nobody is served")
            await scene.router.kill()
            await scene.metering.kill()
            await scene.up()
            await asyncio.gather(*clients)

            async def is_idle() -> bool:
                return await scene.backlog() == 0 and await scene.is_caught_up()

            await until(is_idle, "usage does not come to the ledger")
            sums = scene.sums()
        finally:
            await scene.stop()

    used = prices[0] * sums["prompt_tokens"] + prices[1] * sums["completion_tokens"]
    print(f"{used} of {limit} used by {edge.served} answers; {len(edge.refusals)} were refused")
    assert used <= limit
    assert prices[0] * edge.owed[0] + prices[1] * edge.owed[1] <= used
    # What the dead router held is not spent by others: so much was in flight, and drawn ahead.
    assert used > limit // 4
    error = json.loads(edge.refusals[-1].content)["error"]
    assert (error["code"], error["type"], error["param"]) == ("insufficient_quota", "insufficient_quota", None)
