"""What the bus promises, whatever carries it.

1. A message whose `publish` returned is stored; one whose `publish` raised may or may not be: publish it again.
2. Two messages of one stream with the same id are stored once (within the stream's window; beyond it, the inbox helps).
3. Every stored message is delivered to every consumer whose filter it matches, at least once, until it is answered:
   `Ack` (done), `Retry` (again after a delay), `Dead` (kept in the dead letters with its bytes and the reason).
4. An answer that never comes (the process died) means delivery again.
5. A restart or an outage of the broker, however long, ends in delivery going on by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

BUCKET: Final = "KV_"  # How the stream of a key-value bucket is called, before its name.


@dataclass(frozen=True, slots=True)
class Message:
    """Bytes for a stream. `id` is the dedupe key: an event id, or one computed from it."""

    id: str
    stream: str
    subject: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way to one consumer; `attempt` counts from 1."""

    message: Message
    consumer: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Ack:
    """Done: never again."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: again after `delay_s`."""

    delay_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Dead:
    """Never: keep it among the dead letters with `reason`."""

    reason: str


Answer = Ack | Retry | Dead
# Synchronous; a real bus calls it in a worker thread, never on the event loop. One that raises has not answered.
Handler = Callable[[Delivery], Answer]
# Key, and the new value or None when it was deleted. Called on the event loop: it must be quick, like a dict's set.
# After an outage it may be told again what it knows.
OnChange = Callable[[str, bytes | None], None]
# A key that the bucket neither holds nor was told to delete: whoever keeps the bucket lost it.
OnLost = Callable[[str], None]


class Bus(Protocol):
    """A connection to the bus."""

    async def start(self) -> None:
        """Connect and begin to deliver. Raises Unavailable if there is no broker."""

    async def stop(self) -> None:
        """Finish what is being handled, then disconnect."""

    async def publish(self, messages: Sequence[Message]) -> int:
        """Store messages in order and say how many, from the first on, are stored. Never raises for an outage."""

    def subscribe(self, consumer: str, handler: Handler) -> None:
        """Have ``handler`` answer what is delivered to the durable ``consumer``. Call before `start`."""

    def watch(self, bucket: str, on_change: OnChange, on_lost: OnLost | None = None) -> None:
        """Tell ``on_change`` every key of a key-value bucket, then every change. Call before `start`.

        `start` returns only after the bucket's present content has been told. With ``on_lost``, a deletion is told as
        such even of a key that was never told, and what is missing without having been deleted goes to ``on_lost``;
        without it, both look alike.
        """

    def is_healthy(self) -> bool:
        """Whether it is connected and its consumers exist."""


def bucket_put(*, bucket: str, key: str, value: bytes, id: str) -> Message:
    """The message that sets ``key`` of a key-value bucket: a bucket is a stream, so a put can ride in an outbox."""
    return Message(id=id, stream=f"{BUCKET}{bucket}", subject=f"$KV.{bucket}.{key}", body=value)


def bucket_delete(*, bucket: str, key: str, id: str) -> Message:
    """The message that deletes ``key`` of a key-value bucket."""
    return Message(
        id=id, stream=f"{BUCKET}{bucket}", subject=f"$KV.{bucket}.{key}", body=b"", headers={"KV-Operation": "DEL"}
    )


def is_of_bucket(message: Message) -> bool:
    """Whether a message sets or deletes a key of a bucket."""
    return message.stream.startswith(BUCKET)
