"""What to look for on the Platform: derived from the claim alone, so that a changed wish asks anew."""

from __future__ import annotations

from libs.common.events.facts import Fact
from services.capacity_manager.core.observed import Question
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.state import Claim


def question_of(claim: Claim) -> Question:
    """The question that the next observation answers."""
    wanted = wanted_by(claim)
    reserved = claim.reservation.nodes if claim.reservation else 0
    return Question(
        look=claim.look,
        wanted=wanted,
        is_unwanted=claim.is_unwanted,
        is_removable=claim.is_removable,
        room=wanted > reserved or claim.warm_wanted > claim.warm,
        gpus=not claim.is_unwanted and Fact.NODES_JOINED in claim.told and Fact.GPU_READY not in claim.told,
    )
