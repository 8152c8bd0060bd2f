"""Two hosts of routers behind one name, as real processes with a broker: what one admits, the other has no room for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from libs.common.bus.port import bucket_put
from libs.common.bus.streams import QUOTAS
from libs.common.events.tables import QuotaEntry
from services.router.core.rows import WINDOW_S
from tests.integration.test_router_hosts import Hosts, hosts
from tests.integration.test_router_process import RouterProcess, publish
from tests.support.nats import nats_server
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import TENANT, a_request, ask, chat_body

__all__ = ["hosts", "nats_server"]

pytestmark = [pytest.mark.xdist_group("preloaded"), pytest.mark.chaos]

LIMIT = 30
POLL_S, POLLS = 1.2, 25  # So half a minute of them would not fill the limit by themselves.


async def statuses(router: RouterProcess, count: int) -> Counter[int]:
    """What so many at once are answered."""
    answers = await asyncio.gather(*(ask(router.port, a_request(chat_body(max_tokens=1))) for _ in range(count)))
    return Counter(answer.status for (answer,) in answers)


async def test_a_limit_that_one_host_filled_is_full_on_the_other_too(hosts: Hosts) -> None:
    quota = QuotaEntry(tenant_id=TENANT, requests_per_minute=LIMIT).model_dump_json().encode()
    await publish(hosts.server, bucket_put(bucket=QUOTAS, key=TENANT, value=quota, id="quota"))
    async with running(Engine()) as engine:
        await hosts.begin(engine)
        began_s = time.monotonic()

        filled = await statuses(hosts.first, 2 * LIMIT)
        assert filled == {200: LIMIT, 429: LIMIT}

        polled = Counter[int]()
        while not polled[429]:
            assert polled[200] < POLLS, "it never heard"
            polled += await statuses(hosts.other, 1)
            await asyncio.sleep(POLL_S)
        flooded = await statuses(hosts.first, LIMIT) + await statuses(hosts.other, LIMIT)

        assert set(polled) <= {200, 429}
        is_room_back = time.monotonic() - began_s > WINDOW_S  # On a machine that took a minute for all this.
        assert flooded == {429: 2 * LIMIT} or is_room_back
