"""What an endpoint remembers of an event: the fact, the owner's words and figures. In any order, any repeat."""

from __future__ import annotations

from dataclasses import replace

from libs.common.events.capacity import CapacityFailed, CapacityWaiting
from libs.common.events.envelope import Envelope
from libs.common.events.route import RoutePublished, RouteWaiting
from libs.common.events.runtime import ModelDownloaded, ModelProgressed, ReplicasChanged, RuntimeDegraded, RuntimeFailed
from libs.common.events.scale import ScaleDecided
from libs.common.events.usage import StreamsCut
from services.endpoint_api.core import receipts
from services.endpoint_api.core.state import Download, Endpoint, Figure, Words


def hear(endpoint: Endpoint, envelope: Envelope) -> Endpoint:
    """The endpoint with what the event says added. A fact of a generation below its floor says nothing."""
    news = envelope.heard()
    if news is None:
        return _note(endpoint, envelope)
    facts = endpoint.facts if news.generation < endpoint.floors.of(news.fact) else endpoint.facts.learn(news)
    if facts is endpoint.facts:
        return endpoint
    return _detail(replace(endpoint, facts=facts), envelope)


def _detail(endpoint: Endpoint, envelope: Envelope) -> Endpoint:
    """What comes along with a fact that was news."""
    match envelope.data:
        case CapacityFailed() | RuntimeFailed() as failed:
            # The first cause stays: it is what was told, and what the others follow from.
            return replace(endpoint, failure=endpoint.failure or _words(envelope, failed.reason, failed.message))
        case RuntimeDegraded() as degraded:
            return replace(endpoint, degraded=_words(envelope, degraded.reason, degraded.message))
        case RoutePublished() as published:
            return replace(endpoint, url=published.url)
        case ModelDownloaded() as downloaded:
            return replace(endpoint, fetched_bytes=downloaded.bytes_fetched)
        case _:
            return endpoint


def _note(endpoint: Endpoint, envelope: Envelope) -> Endpoint:
    """What is not a fact: explanations and figures, each the latest that its owner told."""
    match envelope.data:
        case CapacityWaiting() as waiting if _is_newer(envelope, endpoint.waiting):
            return replace(endpoint, waiting=_words(envelope, waiting.reason, waiting.message))
        case ModelProgressed() as progressed if _is_newer(envelope, endpoint.download):
            done, total = progressed.bytes_done, progressed.bytes_total
            return replace(endpoint, download=Download(done, total, envelope.generation, envelope.sequence))
        case RouteWaiting() as waiting if _is_newer(envelope, endpoint.unpublished):
            return replace(endpoint, unpublished=_words(envelope, waiting.reason, waiting.message))
        case StreamsCut() as news:
            return receipts.enter(endpoint, news.streams)
        case ReplicasChanged() as changed if _is_newer(envelope, endpoint.ready):
            return replace(endpoint, ready=Figure(changed.ready, envelope.sequence))
        case ScaleDecided() as scaled if _is_newer(envelope, endpoint.decided):
            return replace(endpoint, decided=Figure(scaled.replicas, envelope.sequence))
        case _:
            return endpoint


def _is_newer(envelope: Envelope, known: Words | Figure | Download | None) -> bool:
    return known is None or envelope.sequence > known.sequence


def _words(envelope: Envelope, reason: str, message: str) -> Words:
    return Words(reason, message, envelope.generation, envelope.sequence)
