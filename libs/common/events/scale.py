"""Events owned by autoscaler: how many replicas, and from which figures that follows."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from libs.common.events.event import Contract, Event, Owner


class ScaleInputs(Contract):
    """Everything the decision was made from: feed it to the same policy and the same number comes out."""

    current: int
    min: int
    max: int
    target_concurrency: int
    concurrency_milli: int = Field(description="Mean requests in flight over the window, times 1,000.")
    window_ms: int
    samples: int
    peak_milli: int = Field(
        default=0, description="Most requests in flight at once in the window, times 1,000; the rest must absorb it."
    )


class ScaleDecided(Event):
    """So many replicas should run from now on."""

    kind: ClassVar[str] = "scale.decided"
    owner: ClassVar[Owner] = Owner.AUTOSCALER
    consumers: ClassVar[frozenset[Owner]] = frozenset(
        {Owner.CAPACITY_MANAGER, Owner.RUNTIME_DEPLOYER, Owner.ENDPOINT_API}
    )

    replicas: int
    reason: str
    inputs: ScaleInputs


class PoolInputs(Contract):
    """What a target was made from: the same figures give the same number."""

    window_ms: int
    draws: int = Field(description="How often nodes were drawn in the window.")
    at_once: int = Field(description="Most nodes drawn within `boot_ms`: so many must stand warm to have served each.")
    boot_ms: int


class PoolTargeted(Event):
    """So many nodes should stand warm, of a pool or of an endpoint's own cluster; tiers bound what is made of it."""

    kind: ClassVar[str] = "pool.targeted"
    owner: ClassVar[Owner] = Owner.AUTOSCALER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.CAPACITY_MANAGER})

    nodes: int
    reason: str
    inputs: PoolInputs
