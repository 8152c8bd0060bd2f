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
