"""Two hosts of routers behind one name, as real processes with a broker: what one admits, the other has no room for."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.common.bus.port import bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import KEYS, QUOTAS, ROUTES
from libs.common.events.tables import QuotaEntry
from services.router.core.rows import WINDOW_S
from tests.integration.test_router_process import RouterProcess, publish, until
from tests.support.nats import nats_server
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import ENDPOINT, KEY, TENANT, a_request, a_route, ask, chat_body, key_entry

__all__ = ["nats_server"]

pytestmark = [pytest.mark.xdist_group("preloaded"), pytest.mark.chaos]

LIMIT = 60
POLL_S, POLLS = 0.6, 50  # So half a minute of them would not fill the limit by themselves.


@pytest.fixture
async def hosts(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[list[RouterProcess]]:
    """One of two workers, one of one; not started yet."""
    await provision(nats_server.url)
    told = {
        KEYS: (KEY.key_id, key_entry(KEY)),
        QUOTAS: (TENANT, QuotaEntry(tenant_id=TENANT, requests_per_minute=LIMIT)),
    }
    for bucket, (key, entry) in told.items():
        value = entry.model_dump_json().encode()
        await publish(nats_server, bucket_put(bucket=bucket, key=key, value=value, id=bucket))
    each = []
    for number, (role, workers) in enumerate((("first", 2), ("other", 1))):
        state = tmp_path / f"router-{number}"
        state.mkdir()
        more = {"ROLE": role, "INSTANCE": f"router-{number}", "WORKERS": str(workers)}
        each.append(RouterProcess(nats_server, state, more=more))
    yield each
    for router in each:
        if router.process is not None and router.process.returncode is None:
            await router.end(signal.SIGTERM)


async def statuses(router: RouterProcess, count: int) -> Counter[int]:
    """What so many at once are answered."""
    answers = await asyncio.gather(*(ask(router.port, a_request(chat_body(max_tokens=1))) for _ in range(count)))
    return Counter(answer.status for (answer,) in answers)


async def test_a_limit_that_one_host_filled_is_full_on_the_other_too(hosts: list[RouterProcess]) -> None:
    one, other = hosts
    async with running(Engine()) as engine:
        route = a_route((engine.url,)).model_dump_json().encode()
        await publish(one.server, bucket_put(bucket=ROUTES, key=ENDPOINT, value=route, id="route"))
        await asyncio.gather(*(router.start() for router in hosts))
        for router in hosts:
            await until(router.serves)
        began_s = time.monotonic()

        filled = await statuses(one, 2 * LIMIT)
        assert filled == {200: LIMIT, 429: LIMIT}

        polled = Counter[int]()
        while not polled[429]:
            assert polled[200] < POLLS, "it never heard"
            polled += await statuses(other, 1)
            await asyncio.sleep(POLL_S)
        flooded = await statuses(one, LIMIT) + await statuses(other, LIMIT)

        assert set(polled) <= {200, 429}
        is_room_back = time.monotonic() - began_s > WINDOW_S  # On a machine that took a minute for all this.
        assert flooded == {429: 2 * LIMIT} or is_room_back
