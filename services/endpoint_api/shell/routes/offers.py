"""Routes on what is sold."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from services.endpoint_api.core.offers import ModelView, OperatorTierView, TierView
from services.endpoint_api.shell.routes.asking import Verbs, Who

router: Final = APIRouter(tags=["offers"])


class TierList(BaseModel):
    """Tiers that may be named in a spec."""

    model_config = ConfigDict(frozen=True)

    items: tuple[TierView, ...]


class ModelList(BaseModel):
    """Models that may be named in a spec."""

    model_config = ConfigDict(frozen=True)

    items: tuple[ModelView, ...]


class OperatorTierList(BaseModel):
    """All tiers as the operator wrote them."""

    model_config = ConfigDict(frozen=True)

    items: tuple[OperatorTierView, ...]


@router.get("/tiers")
def list_tiers(who: Who, verbs: Verbs) -> TierList:
    """What can be bought."""
    return TierList(items=verbs.offers.tiers(who))


@router.get("/models")
def list_models(who: Who, verbs: Verbs) -> ModelList:
    """What can be served."""
    return ModelList(items=verbs.offers.models(who))


@router.get("/catalogue")
def list_catalogue(who: Who, verbs: Verbs) -> OperatorTierList:
    """All tiers, with what they run on and need; for operators."""
    return OperatorTierList(items=verbs.offers.catalogue(who))
