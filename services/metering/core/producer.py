"""A router process as a source: its batches become ledger lines, and it is told that it may forget them.

The lines and the confirmation are one commit. A batch that comes again under another id (the router resends what was
not confirmed) enters the same lines, which changes nothing, and is confirmed again.
"""

from __future__ import annotations

from dataclasses import replace

from libs.common.decision import Decision
from libs.common.errors import Invalid
from libs.common.events.envelope import Envelope
from libs.common.events.route import UsageReported
from libs.common.events.usage import UsageConfirmed
from services.metering.core.intake import lines_of
from services.metering.core.state import Producer


def decide(producer: Producer, envelope: Envelope, now_ms: int) -> Decision[Producer]:
    """Enter a batch and confirm every request in it: each is in the ledger now, billed or parked.

    Raises Invalid for a batch that another instance's name stands on.
    """
    batch = envelope.data
    assert isinstance(batch, UsageReported), batch
    if batch.instance != producer.instance:
        raise Invalid(f"a batch of {batch.instance} came as one of {producer.instance}")
    confirmed = UsageConfirmed(instance=batch.instance, request_ids=tuple(each.request_id for each in batch.requests))
    return Decision(
        replace(
            producer,
            boots=producer.boots.hear(batch.boot_id, batch.boot_seq, told_ms=envelope.time_ms),
            requests=producer.requests + len(batch.requests),
        ),
        events=(confirmed,) if batch.requests else (),
        lines=tuple(line for each in batch.requests for line in lines_of(each, now_ms=now_ms)),
    )
