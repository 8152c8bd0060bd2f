"""Autoscaler, joined: one scaler per endpoint, and the warm stock of each pool, over a store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from libs.common.events.capacity import PoolDrawn
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointStageChanged,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Owner
from libs.common.events.route import TrafficObserved
from libs.common.events.runtime import ReplicasChanged
from libs.common.runner import Owned, Runner, its_subject
from libs.common.service import Service
from services.autoscaler.core.decide import decide
from services.autoscaler.core.policy import Policy
from services.autoscaler.core.state import Scaler
from services.autoscaler.core.stock import STOCK, Stock, decide_stock
from services.autoscaler.shell.ports import Ports

SCALER: Final = "scaler"
STOCKS: Final = Owned(kind=STOCK, state=Stock, empty=Stock, decide=decide_stock, hears={PoolDrawn: its_subject})


def observed_endpoints(envelope: Envelope) -> Sequence[str]:
    """The endpoints that a report is about."""
    assert isinstance(envelope.data, TrafficObserved), envelope
    return sorted({each.endpoint_id for each in envelope.data.endpoints})


def scalers(policy: Policy) -> Owned[Scaler]:
    """The kind of scalers that go by this policy."""
    return Owned(
        kind=SCALER,
        state=Scaler,
        empty=Scaler,
        decide=partial(decide, policy=policy),
        hears={
            EndpointRequested: its_subject,
            EndpointStageChanged: its_subject,
            EndpointDeletionRequested: its_subject,
            EndpointFailed: its_subject,
            EndpointPauseRequested: its_subject,
            ReplicasChanged: its_subject,
            TrafficObserved: observed_endpoints,
        },
    )


def build(ports: Ports) -> Service:
    """The service over these ports."""
    runner = Runner(scalers(ports.policy), store=ports.store, clock=ports.clock)
    stocks = Runner(STOCKS, store=ports.store, clock=ports.clock)
    return Service(name=Owner.AUTOSCALER, store=ports.store, runners=(runner, stocks))
