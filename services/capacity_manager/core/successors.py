"""Which nodes take over from one that is to go: those that are ready, and whether sandboxes could run on them."""

from __future__ import annotations

from collections.abc import Sequence

from services.capacity_manager.core.observed import MachineSeen
from services.capacity_manager.core.sites import Site, standing
from services.capacity_manager.core.state import Node, Replacement
from services.capacity_manager.core.vnode import Image, Unfit, of_cluster, of_image, of_unsaid


def others(job: Replacement, nodes: Sequence[Node], site: Site) -> tuple[MachineSeen, ...]:
    """The nodes beside the one that is replaced that are to stay, take pods and offer their GPUs."""
    offers = {each.name for each in site.gpu_nodes}
    lost = {each.name for each in nodes if each.lost_at_ms is not None}
    staying = {each.name for each in standing(site.nodes) if each.is_joined} - lost - {job.node}
    well = (each for each in site.machines if each.is_ready and not each.is_cordoned and each.name in offers)
    return tuple(each for each in well if each.claim in staying)


def why_unfit(job: Replacement, nodes: Sequence[Node], site: Site) -> Unfit | None:
    """Why pods in sandboxes could not move; None if they could, where there are none, or while it is not known.

    A machine that comes first is looked at, as is any that came later than the one that is to go: they have the image
    of today. Where none comes first, what the template says of that image must do.
    """
    sandbox = site.sandbox
    if sandbox is None or job.surges is None:
        return None
    flaws = [*of_cluster(is_licensed=sandbox.is_licensed, has_runtime_class=sandbox.has_runtime_class)]
    flaws += of_image(sandbox.image, f"the OS image of {sandbox.template}")
    joined_ms = {each.name: each.joined_at_ms or 0 for each in nodes}
    for each in others(job, nodes, site):
        if joined_ms.get(each.claim, 0) > joined_ms.get(job.node, 0):
            flaws += of_image(Image(each.kernel, each.containerd), f"node {each.name}")
    if not job.surges:
        flaws += of_unsaid(sandbox.image, f"the template {sandbox.template}")
    return flaws[0] if flaws else None
