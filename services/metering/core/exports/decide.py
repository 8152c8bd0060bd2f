"""What an export makes of a told window, of the moment before a sending, and of the receiver's answer."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Final

from libs.common.decision import Decision
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Internal, Owner
from services.metering.core.exports.plan import Parked, is_doubtful, next_intent
from services.metering.core.exports.receiver import Receiver
from services.metering.core.exports.state import Act, Export, Feed, Intent, Outcome, Piece, Reason, Sold

PIECES_MAX: Final = 8  # Additions of one window that can be taken back one by one; a window has two revisions, rarely.


class Wanted(Internal):
    """A window was told: this is what the receiver should hold of it."""

    kind: ClassVar[str] = "metering.export_wanted"
    owner: ClassVar[Owner] = Owner.METERING

    sold: Sold
    revision: int
    quantity: int


class Begun(Internal):
    """The next sending begins as soon as this is committed."""

    kind: ClassVar[str] = "metering.export_begun"
    owner: ClassVar[Owner] = Owner.METERING


class Ended(Internal):
    """The receiver answered, or certainly got nothing."""

    kind: ClassVar[str] = "metering.export_ended"
    owner: ClassVar[Owner] = Owner.METERING

    intent_id: str
    outcome: Outcome
    detail: str = ""


class Redriven(Internal):
    """Somebody removed the reason: try again."""

    kind: ClassVar[str] = "metering.export_redriven"
    owner: ClassVar[Owner] = Owner.METERING


class Resolved(Internal):
    """Somebody looked at the receiver: what was in doubt is there, or is not."""

    kind: ClassVar[str] = "metering.export_resolved"
    owner: ClassVar[Owner] = Owner.METERING

    is_there: bool


class Heard(Internal):
    """The journal is taken in up to here, since the rewind of this number."""

    kind: ClassVar[str] = "metering.feed_heard"
    owner: ClassVar[Owner] = Owner.METERING

    position: int
    rewinds: int


class Rewound(Internal):
    """Somebody wants all windows from a time on: the journal is read from its beginning."""

    kind: ClassVar[str] = "metering.feed_rewound"
    owner: ClassVar[Owner] = Owner.METERING

    since_ms: int


def decide_export(export: Export, envelope: Envelope, now_ms: int, *, receiver: Receiver) -> Decision[Export]:
    """The export after one event; what is old or was answered already changes nothing.

    The wake-up of one that waits is the end of its window: the earliest of all says how far behind the receiver is.
    """
    after = _after(export, envelope.data, receiver, now_ms)
    return Decision(after, wake_at_ms=after.sold.end_ms if after.waits else None)


def decide_feed(feed: Feed, envelope: Envelope, _now_ms: int) -> Decision[Feed]:
    """The feed after one event; what was read before a rewind does not count behind it."""
    match envelope.data:
        case Heard() as heard if heard.rewinds == feed.rewinds:
            return Decision(replace(feed, position=max(feed.position, heard.position)))
        case Rewound() as again:
            since_ms = again.since_ms if feed.since_ms is None else min(feed.since_ms, again.since_ms)
            return Decision(replace(feed, position=0, since_ms=since_ms, rewinds=feed.rewinds + 1))
        case _:
            return Decision(feed)


def _after(export: Export, event: Event, receiver: Receiver, now_ms: int) -> Export:
    match event:
        case Wanted() as wanted if wanted.revision > export.revision:
            news = replace(export, sold=wanted.sold, revision=wanted.revision, quantity=wanted.quantity)
            return news if export.intent is not None else _again(news)
        case Begun():
            return _begin(export, receiver, now_ms)
        case Ended() as ended if export.intent is not None and export.intent.id == ended.intent_id:
            return _end(_again(export), export.intent, ended.outcome, ended.detail, now_ms)
        case Redriven() if export.intent is None:
            return _again(export)
        case Resolved() as resolved if export.intent is not None and export.parked is Reason.UNKNOWN_OUTCOME:
            outcome = Outcome.ACCEPTED if resolved.is_there else Outcome.UNSENT
            return _end(replace(_again(export), tries=1), export.intent, outcome, "resolved by hand", now_ms)
        case _:
            return export


def _begin(export: Export, receiver: Receiver, now_ms: int) -> Export:
    if export.parked is not None:
        return export
    if export.intent is not None:
        if not is_doubtful(export.intent, receiver, now_ms):
            return replace(export, tries=export.tries + 1)
        return _park(export, Reason.UNKNOWN_OUTCOME, f"{export.intent.id} may be there; its id is forgotten", now_ms)
    news = next_intent(export, receiver, now_ms)
    if isinstance(news, Parked):
        return _park(export, news.reason, news.detail, now_ms)
    return export if news is None else replace(export, intent=news, begun=export.begun + 1, tries=1)


def _end(export: Export, intent: Intent, outcome: Outcome, detail: str, now_ms: int) -> Export:
    if export.tries > 1 and outcome is Outcome.UNSENT:
        return export  # This sending did not arrive; one before it may have.
    if export.tries > 1 and outcome is Outcome.REFUSED:
        return _park(export, Reason.UNKNOWN_OUTCOME, f"refused now, but it may be there: {detail}", now_ms)
    done = replace(export, intent=None, tries=0)
    if outcome is Outcome.UNSENT:
        return done
    if outcome is Outcome.REFUSED:
        return _park(done, Reason.REFUSED, detail, now_ms)
    if intent.act is Act.CANCEL:
        pieces = tuple(each for each in export.pieces if each.id != intent.cancels)
    else:
        pieces = (*export.pieces, Piece(intent.id, intent.quantity, intent.made_ms, detail))[-PIECES_MAX:]
    return replace(
        done,
        held=export.held + intent.quantity,
        held_as=intent.sold,
        pieces=pieces,
        accepted_ms=now_ms,
        receipt=detail,
    )


def _park(export: Export, reason: Reason, detail: str, now_ms: int) -> Export:
    return replace(export, parked=reason, parked_detail=detail, parked_ms=now_ms)


def _again(export: Export) -> Export:
    return replace(export, parked=None, parked_detail="", parked_ms=0)
