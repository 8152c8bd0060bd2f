"""Reading a stream as an operator does: in order, from any place, leaving no trace on the broker but its reads.

The client of NATS takes a third of a second to load, and the whole command line imports this module: so it is loaded
when something is read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from libs.common.bus.port import Message
from libs.common.errors import Unavailable

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

BATCH: Final = 100
POLL_S: Final = 1.0
PATIENCE_S: Final = 30.0  # A broker that syncs every write on a busy disk answers late, not never.
MSG_ID: Final = "Nats-Msg-Id"
IDLE_S: Final = 60.0  # After this the broker forgets a reader that went away.


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as it lies in a stream."""

    sequence: int
    message: Message


async def tail(
    url: str, *, stream: str, subject: str = ">", from_sequence: int = 1, follow: bool = False
) -> AsyncGenerator[Stored, None]:
    """The messages of a stream in order, from ``from_sequence`` on; with ``follow``, then those that come.

    Raises Unavailable if there is no broker, no such stream, or no answer for half a minute: what was read is
    then not all there is.
    """
    import nats

    try:
        client = await nats.connect(url, max_reconnect_attempts=3, connect_timeout=2, allow_reconnect=follow)
    except (OSError, nats.errors.Error) as trouble:
        raise Unavailable(f"no bus at {url} ({type(trouble).__name__}): is it running?") from None
    try:
        reader, pending = await _reader(client.jetstream(timeout=PATIENCE_S), stream, subject, from_sequence)
        while follow or pending:
            try:
                batch = await reader.fetch(BATCH, timeout=POLL_S if follow else PATIENCE_S)
            except TimeoutError:  # The client raises its own, which is one, or the plain one.
                if follow:
                    continue
                raise
            for each in batch:
                pending = each.metadata.num_pending
                yield Stored(each.metadata.sequence.stream, _message(stream, each))
    except nats.js.errors.NotFoundError:
        raise Unavailable(f"no stream {stream} at {url}: run `python -m libs.common.bus.provision`") from None
    except (TimeoutError, nats.errors.Error) as trouble:
        raise Unavailable(f"the bus at {url} went silent ({type(trouble).__name__}): try again") from None
    finally:
        await client.close()


def _message(stream: str, stored: Msg) -> Message:
    """The message as it was published, without what the broker's protocol added."""
    headers = stored.headers or {}
    ours = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
    return Message(headers.get(MSG_ID, ""), stream, stored.subject, stored.data, ours)


async def _reader(
    context: JetStreamContext, stream: str, subject: str, from_sequence: int
) -> tuple[JetStreamContext.PullSubscription, int]:
    """A reader that the broker forgets by itself, and how many messages wait for it now."""
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

    config = ConsumerConfig(
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=from_sequence,
        mem_storage=True,
        inactive_threshold=IDLE_S,
    )
    reader = await context.pull_subscribe(subject, stream=stream, config=config)
    return reader, (await reader.consumer_info()).num_pending or 0
