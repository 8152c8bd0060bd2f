"""The receipt of an operation: what it cut short, once each, on the operation that did it."""

from __future__ import annotations

from dataclasses import replace

from libs.common.events.usage import CutStream, StreamsCut
from libs.common.ids import OperationId
from services.endpoint_api.core import receipts
from services.endpoint_api.core.hearing import hear
from services.endpoint_api.core.state import Endpoint, Operation, Verb
from services.endpoint_api.core.status import operation_view
from tests.unit.endpoint_api.given import NOW, an_endpoint, told


def cut(*numbers: int, generation: int = 1, ended_ms: int = NOW + 50) -> StreamsCut:
    return StreamsCut(
        streams=tuple(
            CutStream(request_id=f"req-{each}", generation=generation, completion_tokens=each, ended_ms=ended_ms)
            for each in numbers
        )
    )


def updated_twice() -> Endpoint:
    made = an_endpoint()
    first, second = (
        Operation(OperationId(f"op-x-{number}"), Verb.UPDATE, number, NOW + 20 * number) for number in (2, 3)
    )
    return replace(made, operations=(*made.operations, first, second))


def on(endpoint: Endpoint) -> list[list[str]]:
    return [[each.request_id for each in operation.cut] for operation in endpoint.operations]


def test_a_cut_is_on_the_operation_that_ended_what_it_ran_on() -> None:
    endpoint = updated_twice()

    by_first = hear(endpoint, told(cut(1), sequence=1))
    by_second = hear(by_first, told(cut(2, generation=2, ended_ms=NOW + 90), sequence=2))

    assert on(by_first) == [[], ["req-1"], []]
    assert on(by_second) == [[], ["req-1"], ["req-2"]]


def test_what_is_told_again_counts_once() -> None:
    again = hear(hear(updated_twice(), told(cut(1, 2), sequence=1)), told(cut(2, 3), sequence=2))

    assert on(again)[1] == ["req-1", "req-2", "req-3"]
    assert again.operations[1].streams_cut == 3


def test_a_receipt_lists_so_many_and_counts_all() -> None:
    many = hear(updated_twice(), told(cut(*range(receipts.LISTED_MAX + 5))))

    view = operation_view(many, many.operations[1])

    assert (view.streams_cut, len(view.receipt)) == (receipts.LISTED_MAX + 5, receipts.LISTED_MAX)
    assert (view.receipt[7].request_id, view.receipt[7].completion_tokens) == ("req-7", 7)


def test_a_cut_that_no_operation_made_is_on_none() -> None:
    assert hear(updated_twice(), told(cut(1, generation=9))) == updated_twice()
