"""A budget, its last tokens, and many who want them at once, with real processes that are killed meanwhile."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import httpx
import pytest

from libs.common.bus.port import bucket_put
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import QUOTAS
from libs.common.events.tables import QuotaEntry
from services.metering.core.money import UNLIMITED
from tests.integration.metered import Scene, put, until
from tests.support.nats import nats_server
from tests.support.web import NO_TLS
from tests.unit.router.engine import PROMPT_TOKENS, Engine, running
from tests.unit.router.scene import KEY, NAME, PROJECT, TENANT

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


@pytest.mark.chaos
@pytest.mark.xdist_group("metered")
@pytest.mark.parametrize("is_money", [False, True], ids=["tokens", "money"])
async def test_a_budget_is_spent_to_its_end_and_never_beyond(
    nats_server: NatsServer, tmp_path: Path, is_money: bool
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
            value = entry.model_dump_json().encode()
            quota = bucket_put(bucket=QUOTAS, key=f"{TENANT}.{PROJECT}", value=value, id="budget")
            await put(scene.client.jetstream().publish, quota)
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
    assert edge.served * (prices[0] * PROMPT_TOKENS + prices[1] * MAX_TOKENS) <= used
    # What the dead router held is not spent by others: so much was in flight, and drawn ahead.
    assert used > limit // 4
    error = json.loads(edge.refusals[-1].content)["error"]
    assert (error["code"], error["type"], error["param"]) == ("insufficient_quota", "insufficient_quota", None)
