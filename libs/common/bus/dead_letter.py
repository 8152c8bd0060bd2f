"""What a dead letter is: a message that was given up, whole, with why, by whom, and after how many attempts."""

from __future__ import annotations

from typing import Final

from libs.common.bus.port import Message
from libs.common.bus.streams import DLQ

REASON_MAX: Final = 1000  # Characters; a header is for people to read, not for a traceback.


def dead_letter(message: Message, *, consumer: str, reason: str, attempt: int) -> Message:
    """The dead letter of a message for one consumer; the same id each time, so that it is kept once."""
    return Message(
        id=f"dlq:{consumer}:{message.id}",
        stream=DLQ,
        subject=f"mr.v1.dlq.{consumer}",
        body=message.body,
        headers={
            **{name: value for name, value in message.headers.items() if not name.startswith("Nats-")},
            "mr-dead-reason": _one_line(reason),
            "mr-dead-consumer": consumer,
            "mr-dead-id": message.id,
            "mr-dead-subject": message.subject,
            "mr-dead-stream": message.stream,
            "mr-dead-attempts": str(attempt),
        },
    )


def _one_line(reason: str) -> str:
    """Printable ASCII without line breaks: all that every reader of headers agrees on."""
    return " ".join(reason.split()).encode("ascii", "backslashreplace").decode()[:REASON_MAX]
