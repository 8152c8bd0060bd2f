"""The OpenAPI document against the app: whatever fits it is answered as documented, and tells A nothing of B.

schemathesis makes the requests, a third of them wrong. Half of their path parameters are replaced by true ids and
names, A's own or B's. How many were made is said at the end, if one process makes them all (`-n 0`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from _pytest.capture import CaptureManager
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from libs.common.schemas.openapi import operations
from services.endpoint_api.core.identity import PROJECT_HEADER
from tests.interop.two_tenants import DOCUMENT, STREAMS, House, asked, seen

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
EVERY: Final = [(path, method) for path, method, _ in operations(DOCUMENT)]
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES: Final = 24  # An operation; all together take about two minutes of a core.
QUIET: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
ASKED: Final = [each for each in EVERY if each[0] not in STREAMS]


@pytest.fixture(scope="module", autouse=True)
def count(request: pytest.FixtureRequest) -> Iterator[None]:
    """Says how many requests were made."""
    yield
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert isinstance(capture, CaptureManager)
    with capture.global_and_fixture_disabled():
        print(f"\n{asked.total()} requests, by status: {dict(sorted(asked.items()))}")


def name_of(operation: tuple[str, str]) -> str:
    return f"{operation[1].upper()} {operation[0]}"


def cases(operation: tuple[str, str], names: list[str]) -> st.SearchStrategy[Any]:
    """Requests for an operation, with true names in half of their paths, and mostly for the caller's own project."""
    path, method = operation
    asked_for = SCHEMA[path][method.upper()]
    right = asked_for.as_strategy(generation_mode=GenerationMode.POSITIVE)
    made = st.one_of(right, right, asked_for.as_strategy(generation_mode=GenerationMode.NEGATIVE))

    def aimed(case: Any, name: str | None, is_own: bool) -> Any:
        if name is not None:
            case.path_parameters = dict.fromkeys(case.path_parameters or {}, name)
        if is_own and case.headers:
            case.headers.pop(PROJECT_HEADER, None)
        return case

    return st.builds(aimed, made, st.none() | st.sampled_from(names), st.sampled_from((True, True, False)))


def request_of(case: Any) -> dict[str, Any]:
    """What is sent."""
    found: dict[str, Any] = case.as_transport_kwargs(base_url="http://testserver")
    return found


@pytest.mark.parametrize("operation", ASKED, ids=name_of)
def test_every_answer_is_documented_and_none_is_a_bug(operation: tuple[str, str]) -> None:
    house = House(b_is_busy=True)

    @QUIET
    @given(cases(operation, house.fitting(operation[0])))
    def ask(case: Any) -> None:
        case.validate_response(house.ask(request_of(case)), checks=CHECKS)

    ask()


@pytest.mark.parametrize("operation", ASKED, ids=name_of)
def test_a_learns_nothing_of_b(operation: tuple[str, str]) -> None:
    """The same questions have the same answers where B has things, and where B never did anything."""
    busy, quiet = House(b_is_busy=True), House(b_is_busy=False)
    names = [*busy.things_of(busy.b), *busy.things_of(busy.a)]

    @QUIET
    @given(cases(operation, names), st.sampled_from((None, None, *names)), st.booleans())
    def ask(case: Any, project: str | None, b_acts: bool) -> None:
        request = request_of(case)
        if project is not None:
            request["headers"] = {**(request.get("headers") or {}), "X-Millrace-Project": f"{project}/main"}
        if b_acts:
            busy.b_acts()
        assert seen(busy.ask(request)) == seen(quiet.ask(request))

    ask()


# Streams never end, so they are not generated for; what refuses them is as documented, and the same of B's and of none.
REFUSED: Final[dict[int, dict[str, Any]]] = {
    401: {},
    405: {"method": "POST"},
    415: {"content": b"x", "headers": {"Content-Type": "text/plain"}},
    422: {"headers": {"Last-Event-ID": "not-a-position"}},
}


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize("path", sorted(STREAMS))
def test_a_stream_is_refused_as_documented(path: str, status: int) -> None:
    house = House(b_is_busy=True)
    [ref, *_] = house.endpoints_of(house.a)
    request = {"method": "GET", "url": path.format(ref=ref), **REFUSED[status]}
    if status == 401:
        house.a = {"authorization": "Bearer mr_no_such_key"}

    answer = house.ask(request)

    assert answer.status_code == status
    SCHEMA[path]["GET"].Case(path_parameters={"ref": ref}).validate_response(answer, checks=CHECKS)


def test_a_stream_of_bs_is_as_unknown_as_one_of_nobody() -> None:
    house = House(b_is_busy=True)
    [of_b, *_] = house.endpoints_of(house.b)
    of_nobody = "ep-aaaaaaaaaa"

    first, second = (house.ask({"method": "GET", "url": f"/v1/endpoints/{ref}/watch"}) for ref in (of_b, of_nobody))

    assert first.status_code == second.status_code == 404
    assert {**first.json(), "request_id": ""} == {**second.json(), "request_id": ""}


def test_the_comparison_sees_what_is_shared() -> None:
    """Planted: a limit that both tenants fill together shows in A's answers."""
    busy, quiet = House(b_is_busy=True), House(b_is_busy=False)
    for house in (busy, quiet):
        house.a = house.b

    answers = [seen(house.ask({"method": "GET", "url": "/v1/endpoints"})) for house in (busy, quiet)]

    assert answers[0] != answers[1]
