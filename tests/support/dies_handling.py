"""A process that dies while it handles its first message: ``python -m tests.support.dies_handling URL``."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import NoReturn

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import Delivery
from tests.contract.bus_promises import CONSUMERS, FIRST, PATIENCE_S

DIED = 9


def die(_delivery: Delivery) -> NoReturn:
    os._exit(DIED)


async def main(url: str) -> None:
    bus = NatsBus(url, name="dies", consumers=CONSUMERS)
    bus.subscribe(FIRST.name, die)
    await bus.start()
    await asyncio.sleep(PATIENCE_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
