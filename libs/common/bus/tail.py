"""Reading a stream as an operator does: in order, from any place, leaving no trace on the broker but its reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import nats
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from libs.common.bus.port import Message
from libs.common.errors import Unavailable

BATCH: Final = 100
POLL_S: Final = 1.0
IDLE_S: Final = 60.0  # After this the broker forgets a reader that went away.


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it lies in a stream."""

    sequence: int
    message: Message


async def tail(
    url: str, *, stream: str, subject: str = ">", from_sequence: int = 1, follow: bool = False
) -> AsyncIterator[Stored]:
    """The messages of a stream in order, from ``from_sequence`` on; with ``follow``, then those that come.

    Raises Unavailable if there is no broker or no such stream.
    """
    try:
        client = await nats.connect(url, max_reconnect_attempts=3, connect_timeout=2, allow_reconnect=follow)
    except (OSError, nats.errors.Error) as trouble:
        raise Unavailable(f"no bus at {url} ({type(trouble).__name__}): is it running?") from None
    try:
        context = client.jetstream()
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=from_sequence,
            mem_storage=True,
            inactive_threshold=IDLE_S,
        )
        pending = (await context.stream_info(stream)).state.last_seq
        reader = await context.pull_subscribe(subject, stream=stream, config=config)
        while follow or pending >= from_sequence:
            try:
                batch = await reader.fetch(BATCH, timeout=POLL_S)
            except NatsTimeout:
                if follow:
                    continue
                return
            for each in batch:
                place = each.metadata.sequence.stream
                yield Stored(place, Message("", stream, each.subject, each.data, dict(each.headers or {})))
                if each.metadata.num_pending == 0 and not follow:
                    return
    except nats.js.errors.NotFoundError:
        raise Unavailable(f"no stream {stream} at {url}: run `python -m libs.common.bus.provision`") from None
    finally:
        await client.close()
