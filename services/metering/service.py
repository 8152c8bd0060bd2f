"""Metering, joined: producers, meters and windows over one store, and the reconciler that tells what closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from libs.common.errors import Invalid
from libs.common.events.caches import ModelEvicted, ModelHit, ModelReleased, ModelWarmed
from libs.common.events.capacity import NodeJoined, NodeLost, NodeReleased, NodeUsed
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointStageChanged,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event, Owner
from libs.common.events.route import BudgetDrawn, UsageReported
from libs.common.events.runtime import ReplicasChanged, VolumeChanged
from libs.common.reconciler import Reconciler
from libs.common.runner import Owned, Runner, its_subject
from libs.common.service import Service
from services.metering.core import budgets, producer
from services.metering.core.budgets import Budget
from services.metering.core.decide import decide_meter
from services.metering.core.plan import plan
from services.metering.core.producer import Screened, batch_of
from services.metering.core.served import served_by_endpoint
from services.metering.core.state import Meter, Producer, Window, attention_of
from services.metering.core.telling import decide_window
from services.metering.core.windows import Windows
from services.metering.shell.audit import METER, PRODUCER, WINDOW, told_windows
from services.metering.shell.ports import Ports
from services.metering.shell.purse import BUDGET, Purses
from services.metering.shell.screening import Owners, read
from services.metering.shell.teller import Teller

TOGETHER: Final[frozenset[type[Event]]] = frozenset((UsageReported, Screened))
WINDOWS: Final = Owned(
    kind=WINDOW,
    state=Window,
    empty=Window,
    decide=decide_window,
    hears={},
    scope=lambda window: window.root,
)


def producers(owners: Owners) -> Owned[Producer]:
    """The kind of router processes, whose batches are looked at by the door that knows these owners."""
    return Owned(
        kind=PRODUCER,
        state=Producer,
        empty=Producer,
        decide=producer.decide,
        hears={UsageReported: owners.screened, Screened: owners.screened},
    )


def purses(draws: Purses) -> Owned[Budget]:
    """The kind of budgets, drawn on under the limits that hold."""
    return Owned(kind=BUDGET, state=Budget, empty=Budget, decide=budgets.decide, hears={BudgetDrawn: draws.drawn_on})


def served(envelope: Envelope, *, windows: Windows) -> Mapping[str, Event]:
    """What a batch's billable requests say to the meter of each endpoint."""
    return served_by_endpoint(batch_of(envelope), windows)


def kept_for(envelope: Envelope) -> Sequence[str]:
    """The endpoint that a cached model is kept for from then on, or was until then; a hit may change nothing."""
    told = envelope.data
    assert isinstance(told, ModelWarmed | ModelHit | ModelReleased | ModelEvicted), envelope.type
    endpoint_id = told.kept_for if isinstance(told, ModelHit) else told.endpoint_id
    return (endpoint_id,) if endpoint_id else ()


def meters(windows: Windows) -> Owned[Meter]:
    """The kind of meters that cut time into these windows."""
    return Owned(
        kind=METER,
        state=Meter,
        empty=Meter,
        decide=partial(decide_meter, windows=windows),
        hears={
            EndpointRequested: its_subject,
            EndpointStageChanged: its_subject,
            EndpointDeletionRequested: its_subject,
            EndpointFailed: its_subject,
            EndpointPauseRequested: its_subject,
            NodeJoined: its_subject,
            NodeUsed: its_subject,
            NodeLost: its_subject,
            NodeReleased: its_subject,
            ReplicasChanged: its_subject,
            VolumeChanged: its_subject,
            ModelWarmed: kept_for,
            ModelHit: kept_for,
            ModelReleased: kept_for,
            ModelEvicted: kept_for,
            UsageReported: partial(served, windows=windows),
            Screened: partial(served, windows=windows),
        },
        scope=lambda meter: meter.dimensions.tenant_id if meter.dimensions else "",
        attention=attention_of,
    )


def build(ports: Ports) -> Service:
    """The service over these ports.

    Raises Invalid if the store's windows have another size: they would overlap, and time in both be billed twice.
    """
    told = next(told_windows(ports.store), None)
    if told is not None and told.end_ms - told.start_ms != ports.windows.size_ms:
        raise Invalid(
            f"windows of this ledger are {(told.end_ms - told.start_ms) // 1000} s long, not "
            f"{ports.windows.size_ms // 1000} s: set MILLRACE_WINDOW_S back, or begin a new ledger"
        )
    producing = Runner(producers(Owners(ports.store)), store=ports.store, clock=ports.clock)
    metering = Runner(meters(ports.windows), store=ports.store, clock=ports.clock)
    draws = Purses(ports.limits, ports.store, ports.prices)
    purse = Runner(purses(draws), store=ports.store, clock=ports.clock)
    telling = Runner(WINDOWS, store=ports.store, clock=ports.clock)
    teller = Teller(telling, store=ports.store, clock=ports.clock, windows=ports.windows)
    return Service(
        name=Owner.METERING,
        store=ports.store,
        # Producers first: a window is marked when its entries are in the ledger.
        runners=(producing, metering, telling, purse),
        reconcilers=(Reconciler(metering, teller, plan, store=ports.store, clock=ports.clock),),
        together=TOGETHER,
        read=read,
    )
