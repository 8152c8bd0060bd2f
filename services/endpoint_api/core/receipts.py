"""Receipts: which answers an operation cut short, by request id, as the ledger has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from libs.common.events.usage import CutStream
from services.endpoint_api.core.state import Cut, Endpoint, Operation

LISTED_MAX: Final = 200  # Of one operation; beyond that only the number grows. A drain that cuts more cuts all.


def enter(endpoint: Endpoint, streams: tuple[CutStream, ...]) -> Endpoint:
    """The endpoint with these answers on the receipt of the operation that ended what they ran on.

    An answer is told again when a router reports it again: it counts once.
    """
    operations = list(endpoint.operations)
    for each in streams:
        place = _place_of(endpoint.operations, each)
        if place is not None:
            operations[place] = _with(operations[place], each)
    return replace(endpoint, operations=tuple(operations))


def _place_of(operations: tuple[Operation, ...], stream: CutStream) -> int | None:
    """The newest operation that was accepted before the cut and asked for something newer than what was cut."""
    found = [
        index
        for index, each in enumerate(operations)
        if each.accepted_ms <= stream.ended_ms and each.generation > stream.generation
    ]
    return found[-1] if found else None


def _with(operation: Operation, stream: CutStream) -> Operation:
    if any(each.request_id == stream.request_id for each in operation.cut):
        return operation
    cut = operation.cut
    if len(cut) < LISTED_MAX:
        cut = (*cut, Cut(stream.request_id, stream.completion_tokens, stream.ended_ms))
    return replace(operation, cut=cut, streams_cut=operation.streams_cut + 1)
