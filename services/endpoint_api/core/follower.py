"""How far a reader of our own outbox has come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from libs.common.decision import Decision
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner


@dataclass(frozen=True, slots=True)
class Follower:
    """A reader, and the position up to which it has done its work."""

    name: str
    position: int = 0


class Followed(Internal):
    """The reader has done everything up to here."""

    kind: ClassVar[str] = "internal.followed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    position: int


def decide(follower: Follower, envelope: Envelope, now_ms: int) -> Decision[Follower]:
    """The follower further on; it never goes back."""
    del now_ms
    assert isinstance(envelope.data, Followed), envelope.type
    return Decision(replace(follower, position=max(follower.position, envelope.data.position)))
