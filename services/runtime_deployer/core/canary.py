"""Whether the new replicas of a rollout answer as well as the old ones do: what routers saw, and what follows from it.

While replicas are being replaced, routers tell how many requests each of them answered and failed. New ones that fail
where old ones don't are sick, whatever their pods say: the rollout fails and goes back. And a rollout of an endpoint
that is asked all the time has not succeeded before a new replica has answered somebody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Final

from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Internal, Owner
from libs.common.events.route import ReplicaOutcomes, TrafficObserved
from libs.common.units import SECOND_MS
from services.runtime_deployer.core.state import Failure, Outcome, Outcomes, Runtime

FAILED_MIN: Final = 3  # As many in a row put a replica out of balance; fewer are an accident.
FAILED_PERCENT_MIN: Final = 20  # A client that tries once more still sees one request in twenty-five fail.
WORSE_BY: Final = 2  # And at least twice the old replicas' share: what fails everywhere is not the rollout's fault.
SILENT_MS: Final = 15 * SECOND_MS  # Routers report every 2 s while anybody asks: after this, nobody does.


class Answered(Internal):
    """One router's report, as far as it is about one endpoint that is being rolled out."""

    kind: ClassVar[str] = "internal.answered"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER

    instance: str
    replicas: tuple[ReplicaOutcomes, ...]


def answered(envelope: Envelope) -> Mapping[str, Event]:
    """What a router's report says of each endpoint whose replicas are being replaced; of others it says nothing."""
    report = envelope.data
    assert isinstance(report, TrafficObserved), report
    return {
        each.endpoint_id: Answered(instance=report.instance, replicas=each.replicas)
        for each in report.endpoints
        if each.replicas
    }


def note(runtime: Runtime, news: Answered, now_ms: int) -> Runtime:
    """The runtime with a report taken in. Counts only grow, so an older report, or the same again, changes nothing."""
    if not runtime.is_replacing:
        return runtime
    known = runtime.outcomes.seen if runtime.outcomes.run == runtime.run else ()
    counts = {(each.instance, each.replica): each for each in known}
    for each in news.replicas:
        place = (news.instance, each.replica)
        before = counts.get(place, Outcome(*place))
        counts[place] = Outcome(*place, max(before.answered, each.answered), max(before.failed, each.failed))
    seen = tuple(counts[place] for place in sorted(counts))
    return replace(runtime, outcomes=Outcomes(runtime.run, now_ms, seen))


def sickness(runtime: Runtime) -> Failure | None:
    """Why the new replicas should go: they fail what is asked of them, and the old ones don't."""
    new, old = _counts(runtime, is_new=True), _counts(runtime, is_new=False)
    if new.failed < FAILED_MIN or new.percent < FAILED_PERCENT_MIN or new.percent < WORSE_BY * old.percent:
        return None
    message = (
        f"new replicas failed {new.failed} of {new.total} requests ({new.percent} %), "
        f"old ones {old.failed} of {old.total}"
    )
    return Failure("ErrorRate", message)


def is_unproved(runtime: Runtime, now_ms: int) -> bool:
    """Whether somebody asks all the time, and no new replica has answered yet."""
    if not runtime.is_replacing or not is_watched(runtime, now_ms):
        return False
    return not _counts(runtime, is_new=True).answered


def is_watched(runtime: Runtime, now_ms: int) -> bool:
    """Whether routers told of this rollout lately."""
    return runtime.outcomes.run == runtime.run and now_ms < runtime.outcomes.at_ms + SILENT_MS


def silent_at_ms(runtime: Runtime) -> int | None:
    """When it would be too long ago that routers told; None if none did."""
    return runtime.outcomes.at_ms + SILENT_MS if runtime.outcomes.run == runtime.run else None


def _counts(runtime: Runtime, *, is_new: bool) -> Outcome:
    """The sum over the replicas of the recipe that is wanted, or of all others, gone ones included."""
    pods = runtime.seen.pods if runtime.seen is not None else ()
    new = {each.name for each in pods if each.recipe == runtime.recipe}
    seen = runtime.outcomes.seen if runtime.outcomes.run == runtime.run else ()
    mine = [each for each in seen if (each.replica in new) is is_new]
    return Outcome("", "", sum(each.answered for each in mine), sum(each.failed for each in mine))
