"""What somebody else did to a cluster of ours: told once, and put right by the plan, which knows nothing of it."""

from __future__ import annotations

from dataclasses import replace

from libs.common.events.capacity import CapacityDrifted
from libs.common.events.event import Event
from services.capacity_manager.core.lifecycle import OURSELVES
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import home_of, is_shared


def note_drift(claim: Claim, seen: Observed) -> tuple[Claim, tuple[Event, ...]]:
    """The claim with the size that its cluster was last seen to have as we want it, and what to tell if it has not.

    A size that we want anew is not there yet; only one that was there and is not any more was changed by another hand.
    Of a cluster that is shared many hands write, all of them ours.
    """
    reserved = claim.reservation.nodes if claim.reservation else 0
    wanted = min(wanted_by(claim), reserved) + claim.surplus
    if is_shared(claim.placement) or claim.is_unwanted or reserved == 0:
        return replace(claim, sized=None), ()
    found = _found(seen)
    if found == str(wanted):
        return replace(claim, sized=wanted), ()
    if claim.sized != wanted:
        return replace(claim, sized=None), ()
    told = CapacityDrifted(
        cluster=home_of(claim).cluster,
        what="cluster" if seen.cluster is None or seen.cluster.is_deleting else "gpuQuantity",
        wanted=str(wanted),
        found=found,
        waiting_on=OURSELVES,
    )
    return replace(claim, sized=None), (told,)


def _found(seen: Observed) -> str:
    if seen.cluster is None:
        return "none"
    if seen.cluster.is_deleting:
        return "being deleted"
    return "unreadable" if seen.cluster.quantity is None else str(seen.cluster.quantity - seen.cluster.warm)
