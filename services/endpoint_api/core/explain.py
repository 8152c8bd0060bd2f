"""Why an endpoint is where it is: whom it waits for, until when, and what the worker said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from libs.common.events.endpoint import Stage
from libs.common.events.event import Owner
from libs.common.events.facts import Fact
from libs.common.units import GIB, MIB
from services.endpoint_api.core.lifecycle import LIFECYCLE, SERVED
from services.endpoint_api.core.state import Download, Endpoint, Words

FROM_CACHE: Final = "the model was in the cache: nothing was downloaded"
AWAITING_MODEL: Final = "AwaitingRuntimeModelDownloaded"
BY: Final[Mapping[str, frozenset[Fact]]] = {  # The facts of those who also explain why they keep us waiting.
    owner: frozenset(fact for fact in Fact if fact.value.startswith(prefix))
    for owner, prefix in ((Owner.CAPACITY_MANAGER, "capacity."), (Owner.ROUTER, "route."))
}


@dataclass(frozen=True, slots=True)
class Why:
    """A reason for programs, a message for people, and who must act (empty: nobody)."""

    reason: str
    message: str
    waiting_on: str = ""


def why(endpoint: Endpoint) -> Why:
    """What to tell of the present stage."""
    match endpoint.stage:
        case Stage.FAILED:
            return _said(endpoint.failure, Why("Failed", "an owner gave up; resume it, update its spec, or delete it"))
        case Stage.DEGRADED:
            return _said(endpoint.degraded, Why("NoReplicaReady", "no replica is ready", Owner.RUNTIME_DEPLOYER))
        case Stage.READY:
            return Why("Serving", "requests are served")
        case Stage.DELETED:
            return Why("Deleted", "everything was given back")
        case Stage.PAUSED:
            return Why("Paused", "it is kept but does not run; resume it to serve requests again")
        case _:
            return _why_waiting(endpoint)


def waits_for(endpoint: Endpoint) -> str:
    """The service that must act next, or empty."""
    row = _next(endpoint)
    return row.owed_by if row else ""


def deadline_ms(endpoint: Endpoint) -> int | None:
    """When the wait of the present stage has taken too long; None if nothing is waited for."""
    row = LIFECYCLE.awaited(endpoint.stage)
    if row is None or row.within_ms is None or not endpoint.visits or _is_held(endpoint):
        return None
    return max(endpoint.visit.since_ms, endpoint.asked_ms) + row.within_ms


def is_overdue(endpoint: Endpoint, now_ms: int) -> bool:
    """Whether a stage has taken longer than it should: people should look, above all while deleting."""
    due_ms = deadline_ms(endpoint)
    return due_ms is not None and now_ms >= due_ms


def url_of(endpoint: Endpoint) -> str:
    """Where it is served; empty unless it is being served."""
    return endpoint.url if endpoint.stage in SERVED else ""


def _is_held(endpoint: Endpoint) -> bool:
    """Whether its rollout was paused: the clock stands still, too."""
    return endpoint.rollout_paused and endpoint.stage is Stage.UPDATING


def _why_waiting(endpoint: Endpoint) -> Why:
    if _is_held(endpoint):
        return Why("RolloutPaused", "paused on request, old and new replicas serve; resume the operation, or cancel it")
    owed_by = waits_for(endpoint)
    words_of: dict[str, Words | None] = {
        Owner.CAPACITY_MANAGER: endpoint.waiting,
        Owner.ROUTER: endpoint.unpublished,
    }
    said = words_of.get(owed_by)
    if said is not None and _still_holds(endpoint, said, BY[owed_by]):
        return Why(said.reason, said.message, owed_by)
    owed = _next(endpoint)
    assert owed is not None, f"{endpoint.stage} waits for nobody and has no text"
    download = download_of(endpoint)
    if owed.fact is Fact.MODEL_DOWNLOADED and download is not None:
        return Why(AWAITING_MODEL, _downloading(download), owed_by)
    words = owed.fact.value.replace(".", " ").replace("_", " ")
    return Why(f"Awaiting{words.title().replace(' ', '')}", f"{owed_by} is at work; next: {words}", owed_by)


def download_of(endpoint: Endpoint) -> Download | None:
    """How far the download of what is wanted now is; None where that was not told."""
    said = endpoint.download
    return said if said is not None and said.generation >= endpoint.floors.of(Fact.MODEL_DOWNLOADED) else None


def past_of(endpoint: Endpoint, stage: Stage) -> str:
    """What is worth knowing of a stage that is past; empty if nothing is."""
    is_download = stage is Stage.DOWNLOADING_MODEL and endpoint.facts.holds(Fact.MODEL_DOWNLOADED)
    if not is_download or endpoint.fetched_bytes is None:
        return ""
    return _fetched(endpoint.fetched_bytes) if endpoint.fetched_bytes else FROM_CACHE


def _fetched(fetched_bytes: int) -> str:
    unit, name = _unit(fetched_bytes)
    return f"{fetched_bytes / unit:.1f} {name} were downloaded, the digest is right"


def _downloading(download: Download) -> str:
    done, total = download.bytes_done, download.bytes_total
    unit, name = _unit(total)
    return f"{round(100 * done / total)} % of the model is there, {done / unit:.1f} of {total / unit:.1f} {name}"


def _unit(size_bytes: int) -> tuple[int, str]:
    return (GIB, "GiB") if size_bytes >= GIB else (MIB, "MiB")


@dataclass(frozen=True, slots=True)
class _Owed:
    fact: Fact
    owed_by: str


# Where one row of the table stands for more than one owner's work: who must act before, in order.
BEFORE: Final = {
    Stage.UPDATING: (_Owed(Fact.CACHE_WARMED, Owner.RUNTIME_DEPLOYER),),
    Stage.PAUSING: (
        _Owed(Fact.ROUTE_WITHDRAWN, Owner.ROUTER),
        _Owed(Fact.RUNTIME_REMOVED, Owner.RUNTIME_DEPLOYER),
    ),
    Stage.DELETING: (_Owed(Fact.RUNTIME_REMOVED, Owner.RUNTIME_DEPLOYER),),
}


def _next(endpoint: Endpoint) -> _Owed | None:
    """The next fact that is owed, and by whom; None if nothing is waited for."""
    row = LIFECYCLE.awaited(endpoint.stage)
    if row is None:
        return None
    before = BEFORE.get(endpoint.stage, ())
    first = next((each for each in before if not endpoint.facts.holds(each.fact)), None)
    return first or _Owed(row.fact, row.owed_by)


def _still_holds(endpoint: Endpoint, said: Words, facts: frozenset[Fact]) -> bool:
    """Whether nothing that the same owner told later has made its explanation old."""
    later = (each.sequence for each in endpoint.facts.heard if each.fact in facts)
    return said.generation == endpoint.generation and said.sequence > max(later, default=0)


def _said(words: Words | None, otherwise: Why) -> Why:
    return Why(words.reason, words.message, otherwise.waiting_on) if words else otherwise
