"""What an endpoint looks like from outside, and whether that is enough to say that it serves.

A client meets, in this order: a name, a certificate, a listener, the refusal of strangers, and then what its key is
let in to. The first of them that is not as it should be is why the endpoint is not yet published.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LET_IN: Final = 200
STRANGER: Final = 401


class Obstacle(StrEnum):
    """Why no answer came at all."""

    NONE = ""
    NAME = "DnsNotReady"
    CERTIFICATE = "CertificateNotReady"
    WAY = "RouteUnreachable"


class Fault(StrEnum):
    """What is wrong with the answers that came."""

    OPEN = "RouteOpen"
    SHUT = "RouteNotServed"


@dataclass(frozen=True, slots=True)
class Sight:
    """What two requests were answered, one without a key and one with; or what stood in their way."""

    url: str
    obstacle: Obstacle = Obstacle.NONE
    said: str = ""  # Of the obstacle, in the words of whoever found it.
    without_key: int = 0
    with_key: int = 0


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why it is not published yet: a reason for programs, a message for people."""

    reason: str
    message: str


_WHAT_TO_DO: Final = {
    Obstacle.NAME: "its name does not resolve: its DNS record is not there yet",
    Obstacle.CERTIFICATE: "its certificate is not good yet",
    Obstacle.WAY: "nothing answers there",
}


def hindrance(sight: Sight) -> Hindrance | None:
    """What keeps the endpoint from being published; None if outside it is as it should be.

    Strangers come first: an endpoint that lets everybody in is worse than one that lets nobody in.
    """
    if sight.obstacle is not Obstacle.NONE:
        return Hindrance(sight.obstacle, f"{sight.url}: {_WHAT_TO_DO[sight.obstacle]} ({sight.said})")
    if sight.without_key != STRANGER:
        return Hindrance(Fault.OPEN, f"{sight.url} answers {sight.without_key} without a key, {STRANGER} is due")
    if sight.with_key != LET_IN:
        return Hindrance(Fault.SHUT, f"{sight.url} answers {sight.with_key} to a good key, {LET_IN} is due")
    return None
