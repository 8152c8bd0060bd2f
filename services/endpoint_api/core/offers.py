"""The catalogue as a tenant sees it: what can be bought, nothing of what it runs on."""

from __future__ import annotations

from pydantic import Field

from services.endpoint_api.core.catalogue import Model, Tier
from services.endpoint_api.core.status import View


class TierView(View):
    """A tier that may be named in a spec."""

    name: str
    description: str
    regions: tuple[str, ...]
    gpu: str
    gpus_per_replica: int
    replicas_max: int
    price_class: str


class ModelView(View):
    """A model that may be named in a spec, and the tiers that it fits."""

    id: str
    description: str
    digest: str = Field(description="sha256 of the model's manifest.")
    size_bytes: int
    context_tokens: int
    tiers: tuple[str, ...]


def tier_view(tier: Tier) -> TierView:
    """The tier without node types and templates."""
    return TierView(
        name=tier.name,
        description=tier.description,
        regions=tier.regions,
        gpu=tier.gpu,
        gpus_per_replica=tier.gpus_per_replica,
        replicas_max=tier.replicas_max,
        price_class=tier.price_class,
    )


def model_view(model: Model) -> ModelView:
    """The model; the caller's catalogue has already left out tiers that the caller may not use."""
    return ModelView(
        id=model.id,
        description=model.description,
        digest=model.digest,
        size_bytes=model.size_bytes,
        context_tokens=model.context_tokens,
        tiers=model.tiers,
    )
