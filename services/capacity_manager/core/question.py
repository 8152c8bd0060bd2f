"""What to look for on the Platform: derived from the claim alone, so that a changed wish asks anew."""

from __future__ import annotations

from libs.common.events.facts import Fact
from services.capacity_manager.core.observed import Question
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.state import Claim, Step
from services.capacity_manager.core.tenancy import is_shared


def question_of(claim: Claim) -> Question:
    """The question that the next observation answers. Inside a cluster of its own nodes are looked at to the end."""
    wanted = wanted_by(claim)
    reserved = claim.reservation.nodes if claim.reservation else 0
    job = claim.replacement
    return Question(
        look=claim.look,
        wanted=wanted,
        is_unwanted=claim.is_unwanted,
        is_removable=claim.is_removable,
        room=wanted > reserved or claim.warm_wanted > claim.warm or (job is not None and job.surges is None),
        gpus=not claim.is_unwanted and Fact.NODES_JOINED in claim.told and not _is_shared_and_ready(claim),
        node=job.node if job is not None and job.step is Step.DRAINING else "",
    )


def _is_shared_and_ready(claim: Claim) -> bool:
    """Then its nodes are its pool's to watch."""
    return is_shared(claim.placement) and Fact.GPU_READY in claim.told
