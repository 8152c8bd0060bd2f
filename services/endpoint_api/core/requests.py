"""Decide for requests: an Idempotency-Key makes all that is sent with it one request, with one answer, for 30 days.

A request is begun before its command is taken and answered after. A crash between leaves it begun; whoever asks again
once the lease is over does the command again, and as a command's id follows from the request, it happens once. Who was
slower than the lease may still answer: the first answer that is given stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from libs.common.decision import Decision
from libs.common.errors import Conflict, Invalid
from libs.common.events.command import CommandAnswered
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.ids import short_id
from libs.common.runner import Woke
from libs.common.units import DAY_MS, SECOND_MS

KEPT_MS: Final = 30 * DAY_MS  # reliability.md 3.3: as long as anybody's retries.
LEASE_MS: Final = 10 * SECOND_MS  # By then whoever began it is dead, or slow: done again, it still happens once.


class RequestBegun(Internal):
    """Somebody does what was asked; `token` says who."""

    kind: ClassVar[str] = "internal.request_begun"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    digest: str
    token: str


class RequestAnswered(Internal):
    """It was done, or refused for good; `told` is the answer for whoever hears on the bus, with its subject."""

    kind: ClassVar[str] = "internal.request_answered"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    digest: str
    status: int
    body: str
    location: str = ""
    etag: str = ""
    told: CommandAnswered | None = None
    about: str = ""


class RequestDropped(Internal):
    """It was refused and nothing changed: the key may be used again, for the same or for something else."""

    kind: ClassVar[str] = "internal.request_dropped"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    token: str


class Reused(Invalid):
    """The key came before with another body."""

    code = "idempotency_key_reused"


class InFlight(Conflict):
    """The same request is being worked on just now."""

    code = "request_in_progress"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked under a key, as a hash, and what was answered; `status` 0: not yet. Empty: never, or forgotten."""

    key: str
    digest: str = ""
    token: str = ""
    begun_ms: int = 0
    status: int = 0
    body: str = ""
    location: str = ""
    etag: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer to give again."""
        return self.status > 0


def request_id(tenant_id: str, project_id: str, key: str) -> str:
    """The record of a key: each project has its own keys."""
    return short_id("rq", tenant_id, project_id, key)


def decide(request: Request, envelope: Envelope, now_ms: int) -> Decision[Request]:
    """The request after ``envelope``. Raises Reused for another body, InFlight while another does the same."""
    match envelope.data:
        case RequestBegun() as begun:
            return _begin(request, begun, now_ms)
        case RequestAnswered() as answered:
            return _answer(request, answered, now_ms)
        case RequestDropped() as dropped:
            return _drop(request, dropped, now_ms)
        case Woke():
            return _forget_if_old(request, now_ms)
        case other:
            raise AssertionError(f"requests hear no {other.kind}")


def _begin(request: Request, begun: RequestBegun, now_ms: int) -> Decision[Request]:
    if request.digest and request.digest != begun.digest:
        raise Reused("this Idempotency-Key came before with another body; use a new one")
    if request.is_answered:
        return _kept(request)
    if request.token and now_ms < request.begun_ms + LEASE_MS:
        raise InFlight("this request is being worked on; ask again with the same key, for ten seconds at most")
    return _kept(replace(request, digest=begun.digest, token=begun.token, begun_ms=now_ms))


def _answer(request: Request, answered: RequestAnswered, now_ms: int) -> Decision[Request]:
    if request.is_answered or request.digest not in ("", answered.digest):
        return _kept(request)  # Whoever took over was faster, or the key was dropped and means something else by now.
    done = replace(
        request,
        digest=answered.digest,
        token="",
        begun_ms=request.begun_ms or now_ms,
        status=answered.status,
        body=answered.body,
        location=answered.location,
        etag=answered.etag,
    )
    decision = _kept(done)
    if answered.told is None:
        return decision
    return replace(decision, events=(answered.told,), about=answered.about)


def _drop(request: Request, dropped: RequestDropped, _now_ms: int) -> Decision[Request]:
    if request.is_answered or request.token != dropped.token:
        return _kept(request)
    return Decision(Request(request.key))


def _forget_if_old(request: Request, now_ms: int) -> Decision[Request]:
    if now_ms < request.begun_ms + KEPT_MS:
        return _kept(request)
    return Decision(Request(request.key))


def _kept(request: Request) -> Decision[Request]:
    return Decision(request, wake_at_ms=request.begun_ms + KEPT_MS if request.digest else None)
