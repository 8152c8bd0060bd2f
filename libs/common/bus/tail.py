"""Reading a stream as an operator does: in order, from any place, leaving no trace on the broker but its reads.

The client of NATS takes a third of a second to load, and the whole command line imports this module: so it is loaded
when something is read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from libs.common.bus.port import Message
from libs.common.errors import Invalid, Unavailable
from libs.common.units import SECOND_MS

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.api import ConsumerConfig
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


async def ignored(_error: Exception) -> None:
    """For the client of NATS, which else prints a traceback of each attempt: what counts is raised."""


def place_of(url: str) -> str:
    """Where a bus is, without the password."""
    return url.rpartition("@")[2]


def no_bus(url: str, trouble: Exception) -> Unavailable:
    """Nobody answers there."""
    return Unavailable(f"no bus at {place_of(url)} ({type(trouble).__name__}): is it running? `millrace status` tells")


async def tail(
    url: str,
    *,
    stream: str,
    subject: str = ">",
    from_sequence: int = 1,
    from_ms: int | None = None,
    follow: bool = False,
) -> AsyncGenerator[Stored, None]:
    """The messages of a stream in order, from ``from_sequence`` on, or from the time ``from_ms`` on if there is one;
    with ``follow``, then those that come.

    Raises Invalid for a place that there is not, and Unavailable if there is no broker, no such stream, or no answer
    for half a minute: what was read is then not all there is.
    """
    import nats

    try:
        client = await nats.connect(
            url, max_reconnect_attempts=3, connect_timeout=2, allow_reconnect=follow, error_cb=ignored
        )
    except (OSError, nats.errors.Error) as trouble:
        raise no_bus(url, trouble) from None
    try:
        reader, pending = await _reader(
            client.jetstream(timeout=PATIENCE_S), stream, subject, _place(from_sequence, from_ms)
        )
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
        raise Unavailable(f"no stream {stream} at {place_of(url)}: run `python -m libs.common.bus.provision`") from None
    except nats.js.errors.BadRequestError as wrong:
        raise Invalid(f"the bus does not read {stream} so: {wrong.description}") from None
    except (TimeoutError, nats.errors.Error) as trouble:
        raise Unavailable(f"the bus at {place_of(url)} went silent ({type(trouble).__name__}): try again") from None
    finally:
        await client.close()


def _message(stream: str, stored: Msg) -> Message:
    """The message as it was published, without what the broker's protocol added."""
    headers = stored.headers or {}
    ours = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
    return Message(headers.get(MSG_ID, ""), stream, stored.subject, stored.data, ours)


def _place(from_sequence: int, from_ms: int | None) -> ConsumerConfig:
    """Where a reader begins."""
    from nats.js.api import ConsumerConfig, DeliverPolicy

    if from_ms is None:
        return ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=from_sequence)
    began = datetime.fromtimestamp(from_ms / SECOND_MS, UTC)
    return ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=began)


async def _reader(
    context: JetStreamContext, stream: str, subject: str, place: ConsumerConfig
) -> tuple[JetStreamContext.PullSubscription, int]:
    """A reader that the broker forgets by itself, and how many messages wait for it now."""
    from nats.js.api import AckPolicy

    config = place.evolve(ack_policy=AckPolicy.NONE, mem_storage=True, inactive_threshold=IDLE_S)
    reader = await context.pull_subscribe(subject, stream=stream, config=config)
    return reader, (await reader.consumer_info()).num_pending or 0
