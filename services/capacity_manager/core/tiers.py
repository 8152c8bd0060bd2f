"""What capacity knows of the tiers: which classes of nodes each may have, and what in that can't be true.

A contradiction is a fault of the files alone and ends the start; what only the Platform can know is its checkup's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.capacity_manager.core.cluster_template import Recipe
from services.capacity_manager.core.plan import template_of
from services.capacity_manager.core.tenancy import SHARED, Tenancy
from services.capacity_manager.core.warmth import COLD, Warm

NO_RECIPES: Final[tuple[Recipe, ...]] = ()


@dataclass(frozen=True, slots=True)
class TierClass:
    """Nodes that a tier may have; `place` is where its file says so, `gpus` what it says that a node has."""

    node_type: str
    gpus: int
    template: str
    place: str
    region: str = ""

    @property
    def provider(self) -> str:
        """Who makes such nodes: a node type is called ``<provider>.<type>``."""
        return self.node_type.partition(".")[0]


@dataclass(frozen=True, slots=True)
class TierSight:
    """A tier of the catalogue, and where it stands in its file. Its first class is the one that is tried first."""

    name: str
    tenancy: str
    classes: tuple[TierClass, ...]
    licences: tuple[str, ...]
    place: str
    gpus_per_replica: int = 1
    replicas_max: int = 1
    warm: Warm = COLD

    @property
    def node_types(self) -> tuple[str, ...]:
        """The node types of its classes."""
        return tuple(each.node_type for each in self.classes)


def contradictions(tiers: Sequence[TierSight], recipes: Sequence[Recipe] = NO_RECIPES) -> Iterator[str]:
    """What can't be true of the tiers and of our cluster templates: place, field, what is wrong, and what to do."""
    seen: dict[str, str] = {}
    for tier in tiers:
        if tier.name in seen:
            yield f"{tier.place} name: {tier.name} is the tier of {seen[tier.name]} too; give one of them another name"
        seen.setdefault(tier.name, tier.place)
        if tier.tenancy not in set(Tenancy):
            yield f"{tier.place} tenancy: there is no {tier.tenancy}; use one of {', '.join(Tenancy)}"
            continue
        yield from _of_classes(tier)
        for each in tier.classes:
            yield from _of_template(tier, each, recipes)


def _of_classes(tier: TierSight) -> Iterator[str]:
    if len(tier.classes) > 1 and tier.tenancy in SHARED:
        yield f"{tier.place} fallbacks: a cluster that endpoints share has nodes of one class; leave fallbacks out"
    named: set[tuple[str, str]] = set()
    for each in tier.classes:
        if each.gpus < tier.gpus_per_replica:
            yield (
                f"{each.place} gpus_per_node: {each.node_type} has {each.gpus}, a replica of {tier.name} needs "
                f"{tier.gpus_per_replica}; lower gpus_per_replica, or name a larger node type"
            )
        if (each.node_type, each.region) in named:
            yield f"{each.place} node_type: {each.node_type} is a class of {tier.name} already; leave it out here"
        named.add((each.node_type, each.region))


def _of_template(tier: TierSight, each: TierClass, recipes: Sequence[Recipe]) -> Iterator[str]:
    """Of a template that is not ours nothing is known; it is taken to be on the Platform."""
    name, version = template_of(each.template)
    ours = [recipe for recipe in recipes if recipe.name == name]
    if not ours:
        return
    recipe = next((recipe for recipe in ours if recipe.version == version), None)
    if recipe is None:
        versions = ", ".join(sorted(recipe.version for recipe in ours))
        yield f"{each.place} cluster_template: {name} has no version {version or 'without a number'}; use {versions}"
        return
    if recipe.tenancy != tier.tenancy:
        yield (
            f"{each.place} cluster_template: {each.template} is for tenancy {recipe.tenancy}, {tier.name} is "
            f"{tier.tenancy}; change one of the two"
        )
    if recipe.provider != each.provider:
        yield (
            f"{each.place} node_type: {each.node_type} is made by {each.provider}, the nodes of {each.template} by "
            f"{recipe.provider}; name a node type of {recipe.provider}, or another template"
        )
    most = -(-tier.replicas_max // max(1, each.gpus // max(1, tier.gpus_per_replica))) + tier.warm.most
    if most > recipe.nodes_max:
        yield (
            f"{each.place} replicas_max: {tier.replicas_max} replicas and {tier.warm.most} warm nodes are {most} "
            f"nodes, {each.template} has at most {recipe.nodes_max}; lower one, or raise nodes.max in a new version"
        )
