"""The catalogue: which tiers and models are sold, and what an accepted spec is pinned to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from libs.common.events.endpoint import REPLICAS_MAX, Adapter, EndpointSpec, NodeChoice, Placement
from services.endpoint_api.core.fit import Fit, Shape, fit
from services.endpoint_api.core.refusal import FieldRefused

EVERY_TIER: Final = "*"
LAYER: Final = "layer"  # Clients enter at our routers; the rest is Gateway API objects that an operator applies.
# Which ways in a tenancy can have. Private nodes switch off what would import a Gateway into a tenant's cluster; a
# cluster of everybody's has no tenant who could own a Gateway there, and no one tenant's nodes to lead to.
ROUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "private_nodes": (LAYER, "tenant", "bridge"),
    "tenant_cluster": (LAYER, "tenant", "shared", "bridge"),
    "shared_pool": (LAYER, "shared"),
    "vnode": (LAYER, "shared"),
}


@dataclass(frozen=True, slots=True)
class Tier:
    """What a customer buys by one name: how it is isolated, on which GPUs, where, at which price class.

    The first of `runtime_templates` is what an endpoint gets that names none. `open`: every tenant may use it, else
    those that are entitled to it. `licences` are features of the Platform without which it can't be served. `fallbacks`
    are classes of nodes that an endpoint gets, in this order, while there is no room of the first. `interrupted`: what
    is billed of a stream whose client leaves, what was delivered or what was generated. `route`: where clients enter.
    """

    name: str
    description: str
    tenancy: str
    regions: tuple[str, ...]
    gpu: str
    node_type: str
    gpus_per_node: int
    gpus_per_replica: int
    replicas_max: int
    cluster_template: str
    runtime_templates: tuple[str, ...]
    price_class: str
    open: bool = True
    licences: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    fallbacks: tuple[NodeChoice, ...] = ()
    interrupted: str = "delivered"
    route: str = LAYER

    def contradictions(self) -> Iterator[str]:
        """What can't be true of this tier."""
        if self.gpus_per_replica > self.gpus_per_node:
            yield f"tier {self.name}: a replica needs {self.gpus_per_replica} GPUs, a node has {self.gpus_per_node}"
        if self.replicas_max > REPLICAS_MAX:
            yield f"tier {self.name}: replicas_max is over {REPLICAS_MAX}"
        yield from _repeated(f"tier {self.name}: region", self.regions)
        yield from _repeated(f"tier {self.name}: template", self.runtime_templates)
        classes = [(self.node_type, ""), *((each.node_type, each.region) for each in self.fallbacks)]
        yield from _repeated(f"tier {self.name}: class", [" in ".join(filter(None, each)) for each in classes])
        for each in self.fallbacks:
            if self.gpus_per_replica > each.gpus_per_node:
                yield f"tier {self.name}: {each.node_type} has {each.gpus_per_node} GPUs, too few for a replica"
        if self.fallbacks and self.tenancy != "private_nodes":
            yield f"tier {self.name}: a cluster that endpoints share has nodes of one class; leave fallbacks out"


@dataclass(frozen=True, slots=True)
class Model:
    """A model by registry id, pinned to a digest, and the tiers that it fits."""

    id: str
    description: str
    digest: str
    size_bytes: int
    context_tokens: int
    tiers: tuple[str, ...]
    surfaces: tuple[str, ...] = ()
    adapters_max: int = 0
    adapter_rank_max: int = 0
    shape: Shape | None = None  # None: nobody reckons whether it fits.


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All tiers and models, in the order of the files, and how much memory a GPU has, by node type."""

    tiers: tuple[Tier, ...]
    models: tuple[Model, ...]
    gpu_memory_mib: Mapping[str, int] = field(default_factory=dict)

    def for_tenant(self, entitled: Collection[str]) -> Catalogue:
        """What a tenant may buy that is ``entitled`` to these tiers (`*`: all), and nothing that hints at the rest."""
        every = EVERY_TIER in entitled
        tiers = tuple(each for each in self.tiers if each.open or every or each.name in entitled)
        names = {each.name for each in tiers}
        models = (replace(each, tiers=tuple(t for t in each.tiers if t in names)) for each in self.models)
        return Catalogue(tiers, tuple(each for each in models if each.tiers), self.gpu_memory_mib)

    def fit_of(self, model: Model, tier: Tier, node_type: str = "") -> Fit | None:
        """The reckoning of a replica on the tier's nodes, or on another class; None where the figures are not known."""
        memory_mib = self.gpu_memory_mib.get(node_type or tier.node_type)
        if model.shape is None or memory_mib is None:
            return None
        gpus = tier.gpus_per_replica
        return fit(model.shape, context_tokens=model.context_tokens, gpus=gpus, memory_mib=memory_mib)

    def reckoned(self, spec: EndpointSpec) -> Fit | None:
        """The reckoning of what is asked for; None where the figures, or the names, are not known."""
        model = next((each for each in self.models if each.id == spec.model), None)
        tier = next((each for each in self.tiers if each.name == spec.tier), None)
        return self.fit_of(model, tier) if model is not None and tier is not None else None

    def has_room(self, model: Model, tier: Tier, node_type: str = "") -> bool:
        """Whether it fits as far as is known."""
        found = self.fit_of(model, tier, node_type)
        return found is None or found.holds

    def resolve(self, spec: EndpointSpec) -> Placement:
        """What the spec is pinned to. Raises FieldRefused naming the field and listing what exists."""
        model = next((each for each in self.models if each.id == spec.model), None)
        if model is None:
            raise _refused("model", "unknown_model", "no such model", [each.id for each in self.models])
        tier = next((each for each in self.tiers if each.name == spec.tier), None)
        if tier is None:
            raise _refused("tier", "unknown_tier", "no such tier", [each.name for each in self.tiers])
        if spec.region not in tier.regions:
            raise _refused("region", "unknown_region", f"{tier.name} is not sold in that region", tier.regions)
        if tier.name not in model.tiers:
            what = f"{model.id} is not sold on {tier.name}"
            raise _refused("tier", "model_does_not_fit", what, self._roomy(model, spec.region))
        found = self.fit_of(model, tier)
        if found is not None and not found.holds:
            raise _too_large(model, tier, found, self._roomy(model, spec.region))
        if spec.scaling.max > tier.replicas_max:
            message = f"{tier.name} allows at most {tier.replicas_max} replicas an endpoint"
            raise FieldRefused("spec.scaling.max", message, code="too_many_replicas")
        if spec.template and spec.template not in tier.runtime_templates:
            what = f"{tier.name} has no such template"
            raise _refused("template", "unknown_template", what, tier.runtime_templates)
        _check_adapters(spec.adapters, model)
        placement = _placement(tier, model, spec.template or tier.runtime_templates[0])
        roomy = tuple(each for each in tier.fallbacks if self.has_room(model, tier, each.node_type))
        return placement.model_copy(update={"fallbacks": roomy})

    def _roomy(self, model: Model, region: str) -> list[str]:
        """The tiers in a region on which a model is sold, and fits."""
        return [
            each.name
            for each in self.tiers
            if each.name in model.tiers and region in each.regions and self.has_room(model, each)
        ]

    def contradictions(self) -> Iterator[str]:
        """What can't be true of this catalogue, one line each; none if it is sound."""
        yield from _repeated("tier", [each.name for each in self.tiers])
        yield from _repeated("model", [each.id for each in self.models])
        for tier in self.tiers:
            yield from tier.contradictions()
        names = {each.name for each in self.tiers}
        known = {tier.node_type for tier in self.tiers}
        known |= {each.node_type for tier in self.tiers for each in tier.fallbacks}
        for unknown in sorted(set(self.gpu_memory_mib) - known):
            yield f"gpu_memory_mib: no tier has nodes of type {unknown}"
        for model in self.models:
            for missing in sorted(set(model.tiers) - names):
                yield f"model {model.id}: there is no tier {missing}"
            yield from _repeated(f"model {model.id}: tier", model.tiers)


def _too_large(model: Model, tier: Tier, found: Fit, roomy: Sequence[str]) -> FieldRefused:
    """With the numbers, and with what would fit."""
    shorter = f"; a model of {found.tokens} tokens of context would fit" if found.tokens else ""
    what = f"{model.id} does not fit {tier.name}: {found.words}{shorter}"
    others = ", ".join(roomy) or "none"
    return FieldRefused("spec.tier", f"{what}; tiers that have room: {others}", code="model_does_not_fit")


def _placement(tier: Tier, model: Model, template: str) -> Placement:
    return Placement(
        tenancy=tier.tenancy,
        node_type=tier.node_type,
        gpus_per_node=tier.gpus_per_node,
        gpus_per_replica=tier.gpus_per_replica,
        cluster_template=tier.cluster_template,
        runtime_template=template,
        model_digest=model.digest,
        model_size_bytes=model.size_bytes,
        price_class=tier.price_class,
        command=tier.command,
        surfaces=model.surfaces,
        adapters_max=model.adapters_max,
        adapter_rank_max=model.adapter_rank_max,
        fallbacks=tier.fallbacks,
        interrupted=tier.interrupted,
    )


def _check_adapters(adapters: Sequence[Adapter], model: Model) -> None:
    """Raises FieldRefused for more adapters, larger ones, or two of a name."""
    if len(adapters) > model.adapters_max:
        what = f"are {len(adapters)}; {model.id} takes at most {model.adapters_max}"
        raise FieldRefused("spec.adapters", what, code="too_many_adapters")
    for place, each in enumerate(adapters):
        if each.rank > model.adapter_rank_max:
            what = f"is {each.rank}; {model.id} takes at most {model.adapter_rank_max}"
            raise FieldRefused(f"spec.adapters.{place}.rank", what, code="adapter_rank_too_high")
        if each.name in {other.name for other in adapters[:place]}:
            what = "is the name of another adapter too; each has its own"
            raise FieldRefused(f"spec.adapters.{place}.name", what, code="adapter_named_twice")


def _refused(field: str, code: str, what: str, known: list[str] | tuple[str, ...]) -> FieldRefused:
    return FieldRefused(f"spec.{field}", f"{what}; there are: {', '.join(known) or 'none'}", code=code)


def why_no_route(route: str, tenancy: str) -> str:
    """Why endpoints of a tenancy can't be entered like this; empty if they can."""
    if route in ROUTES[tenancy]:
        return ""
    return f"clients of {tenancy} can't enter by {route}; they can by {', '.join(ROUTES[tenancy])}"


def _repeated(what: str, names: list[str] | tuple[str, ...]) -> Iterator[str]:
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield f"{what} {name} is there twice"
