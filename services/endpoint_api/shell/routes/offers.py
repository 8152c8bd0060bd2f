"""Routes on what is sold."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from services.endpoint_api.core.offers import ModelView, TierView
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


@router.get("/tiers")
def list_tiers(who: Who, verbs: Verbs) -> TierList:
    """What can be bought."""
    return TierList(items=verbs.offers.tiers(who))


@router.get("/models")
def list_models(who: Who, verbs: Verbs) -> ModelList:
    """What can be served."""
    return ModelList(items=verbs.offers.models(who))
