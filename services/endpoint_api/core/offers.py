"""The catalogue as a tenant sees it, what can be bought and nothing of what it runs on; and as an operator does."""

from __future__ import annotations

from pydantic import Field

from services.endpoint_api.core.catalogue import Model, Tier
from services.endpoint_api.core.shown import View


class TierView(View):
    """A tier that may be named in a spec."""

    name: str
    description: str
    regions: tuple[str, ...]
    gpu: str
    gpus_per_replica: int
    replicas_max: int
    price_class: str
    templates: tuple[str, ...] = Field(description="What `spec.template` may name; the first is what you get else.")


class OperatorTierView(TierView):
    """A tier with what it runs on and what it needs."""

    tenancy: str
    node_type: str
    gpus_per_node: int
    cluster_template: str
    open: bool = Field(description="Whether every tenant may use it; else those entitled to it.")
    licences: tuple[str, ...] = Field(description="Features of the Platform without which it can't be served.")


class ModelView(View):
    """A model that may be named in a spec, and the tiers that it fits."""

    id: str
    description: str
    digest: str = Field(description="sha256 of the model's manifest.")
    size_bytes: int
    context_tokens: int
    tiers: tuple[str, ...]
    adapters_max: int = Field(default=0, description="How many LoRA adapters an endpoint may load beside it.")
    adapter_rank_max: int = Field(default=0, description="The largest rank that they may have.")


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
        templates=tier.runtime_templates,
    )


def operator_tier_view(tier: Tier) -> OperatorTierView:
    """The whole tier."""
    return OperatorTierView(
        **tier_view(tier).model_dump(),
        tenancy=tier.tenancy,
        node_type=tier.node_type,
        gpus_per_node=tier.gpus_per_node,
        cluster_template=tier.cluster_template,
        open=tier.open,
        licences=tier.licences,
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
        adapters_max=model.adapters_max,
        adapter_rank_max=model.adapter_rank_max,
    )
