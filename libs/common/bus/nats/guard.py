"""Noticing that a consumer of ours is gone or that nobody asks it for messages: FastStream goes on in silence."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from nats.aio.client import Client
from nats.errors import Error
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError

from libs.common.bus.streams import Consumer
from libs.common.tasks import end
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)

LOST: Final = (Error, TimeoutError, OSError)  # What nats-py raises for an outage or a refusal.
EXIT_CONSUMER_GONE: Final = 72

Looks = list[tuple[Consumer, ConsumerInfo | None]]


class ConsumerGuard:
    """Looks at consumers again and again; ends the process when one stays missing beyond a grace."""

    def __init__(
        self, consumers: Sequence[Consumer], *, check_s: float, gone_s: float, die: Callable[[int], object]
    ) -> None:
        self._consumers = consumers
        self._check_s = check_s
        self._gone_s = gone_s
        self._die = die
        self._gone_since_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, connection: Client) -> None:
        """Go on looking in the background."""
        self._task = asyncio.create_task(self._look_again_and_again(connection))

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            await end(self._task)

    @property
    def is_content(self) -> bool:
        """Whether it is looking, and nothing was wrong at the last look."""
        return self._task is not None and not self._task.done() and self._gone_since_s is None

    async def missing(self, connection: Client) -> list[str]:
        """What is not there, or is not as this build needs it. Raises what nats-py raises for an outage."""
        return _missing(await self._looks(connection))

    async def _look_again_and_again(self, connection: Client) -> None:
        while True:  # For as long as the bus is up; `stop` cancels us.
            await asyncio.sleep(self._check_s)
            if not connection.is_connected:
                continue
            try:
                looks = await self._looks(connection)
            except LOST:
                continue  # Unknown is not gone.
            self._judge(_missing(looks) or _stuck(looks))

    async def _looks(self, connection: Client) -> Looks:
        return [(each, await _look(connection, each)) for each in self._consumers]

    def _judge(self, wrong: list[str]) -> None:
        if not wrong:
            self._gone_since_s = None
            return
        now_s = time.monotonic()
        if self._gone_since_s is None:
            self._gone_since_s = now_s
            log.error("consumer is missing", extra=fields(reason="; ".join(wrong)))
        elif now_s - self._gone_since_s > self._gone_s:
            log.critical("exiting to be restarted", extra=fields(reason="; ".join(wrong)))
            self._die(EXIT_CONSUMER_GONE)


def _missing(looks: Looks) -> list[str]:
    return [fault for declared, info in looks if (fault := _fault(declared, info))]


def _stuck(looks: Looks) -> list[str]:
    return [
        f"consumer {declared.name} has {info.num_pending} messages and nobody asks for them"
        for declared, info in looks
        if info is not None and info.num_pending and not info.num_ack_pending and not info.num_waiting
    ]


async def _look(connection: Client, consumer: Consumer) -> ConsumerInfo | None:
    try:
        info: ConsumerInfo = await connection.jetstream().consumer_info(consumer.stream, consumer.name)
    except NotFoundError:
        return None
    return info


def _fault(declared: Consumer, info: ConsumerInfo | None) -> str:
    if info is None:
        return f"no consumer {declared.name} on {declared.stream}"
    heard = set(info.config.filter_subjects or [info.config.filter_subject or ">"])
    if not set(declared.filter_subjects) <= heard:
        return f"consumer {declared.name} does not hear all that this build wants"
    return ""
