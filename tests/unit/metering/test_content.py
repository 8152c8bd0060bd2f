"""What the ledger keeps of a request: the same bytes from every build, whatever is in a name."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events.route import RequestUsage
from services.metering.core.intake import content_of, lines_of
from tests.unit.metering.world import T0, usage

LATER = {"cached_prompt_tokens", "reasoning_tokens", "egress_bytes", "slices", "adapter", "tenancy"}
REPORTS = st.builds(
    RequestUsage,
    **{name: st.text() for name in ("request_id", "tenant_id", "model", "key_id", "finish", "region")},
    prompt_tokens=st.none() | st.integers(),
    first_token_ms=st.none() | st.integers(),
    cached_prompt_tokens=st.none() | st.integers(0, 9),
    slices=st.none() | st.tuples(st.text(), st.text()),
    adapter=st.none() | st.text(),
    tenancy=st.none() | st.text(),
)


@settings(max_examples=50)
@given(REPORTS)
def test_the_content_is_json_with_sorted_names_as_the_encoder_writes_it(report: RequestUsage) -> None:
    said = {name: each for name, each in vars(report).items() if each is not None or name not in LATER}

    assert content_of(report) == json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def test_the_bytes_of_a_known_request_never_change() -> None:
    report = usage("r-1").model_copy(update={"model": 'a"\u00fc\x7f', "egress_bytes": 7})

    assert content_of(report) == (
        b'{"api":"chat","completion_tokens":5,"egress_bytes":7,"ended_ms":1800000001500,"endpoint_id":"ep-one",'
        b'"finish":"stop","first_token_ms":null,"generation":1,"key_id":"abcdefghij","model":"a\\"\\u00fc\\u007f",'
        b'"project_id":"main","prompt_tokens":10,"region":"eu-1","request_id":"r-1","started_ms":1799999999000,'
        b'"tenant_id":"acme","tier":"h100-dedicated","token_source":"engine_final"}'
    )


def test_what_is_not_in_conflict_makes_no_second_line() -> None:
    (first, *others) = lines_of(usage("r-1"), now_ms=T0)

    assert {each.otherwise for each in others} == {first.otherwise}
    assert first.otherwise is not None
    assert first.otherwise().account == "!parked/conflict"
