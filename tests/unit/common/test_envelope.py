"""An event goes over the wire and comes back the same, or is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Invalid, Rejected, UnknownEvent
from libs.common.events.capacity import CapacityReserved, CapacityWaiting
from libs.common.events.envelope import Envelope, effect, from_wire, to_body, to_headers
from libs.common.events.event import Owner
from libs.common.events.facts import Fact
from libs.common.events.runtime import RuntimeRecovered
from libs.common.ids import EventId
from libs.common.runner import Woke

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "sk-a-customers-secret"


def an_envelope(message: str = "no node of the class is free", subject: str = "ep-1") -> Envelope:
    return Envelope(
        id=EventId("e-1"),
        data=CapacityWaiting(reason="NoCapacity", message=message),
        subject=subject,
        time_ms=1_800_000_000_123,
        generation=2,
        sequence=7,
        causation_id="c-1",
        traceparent=TRACE,
    )


def test_what_is_sent_is_what_is_read() -> None:
    sent = an_envelope()

    assert from_wire(to_headers(sent), to_body(sent)) == sent


@given(st.text(), st.text(min_size=1), st.integers(0, 4_000_000_000_000), st.integers(0, 2**53), st.integers(0, 2**53))
def test_any_content_survives_the_wire(
    message: str, subject: str, time_ms: int, generation: int, sequence: int
) -> None:
    sent = replace(an_envelope(message, subject), time_ms=time_ms, generation=generation, sequence=sequence)

    headers = to_headers(sent)

    assert all(value.isascii() and value.isprintable() and " " not in value for value in headers.values())
    assert from_wire(headers, to_body(sent)) == sent


def test_the_headers_are_cloudevents() -> None:
    headers = to_headers(an_envelope())

    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"] == "capacity.waiting.v1"
    assert headers["ce-source"] == "/capacity-manager"
    assert headers["ce-time"] == "2027-01-15T08:00:00.123Z"
    assert headers["content-type"] == "application/json"


def test_header_names_are_read_in_any_case_and_foreign_ones_ignored() -> None:
    sent = an_envelope()
    headers = {name.title(): value for name, value in to_headers(sent).items()} | {"Nats-Msg-Id": "x", "ce-new": "y"}

    assert from_wire(headers, to_body(sent)) == sent


def test_an_event_of_another_owner_is_refused() -> None:
    headers = to_headers(an_envelope()) | {"ce-source": "/router"}

    with pytest.raises(Invalid, match="belongs to capacity-manager"):
        from_wire(headers, to_body(an_envelope()))


@pytest.mark.parametrize("kind", ["capacity.waiting.v2", "capacity.invented.v1", "internal.woke.v1", ""])
def test_an_unknown_type_or_version_is_parked_for_a_later_build(kind: str) -> None:
    headers = to_headers(an_envelope()) | {"ce-type": kind}

    with pytest.raises(UnknownEvent):
        from_wire(headers, to_body(an_envelope()))


@pytest.mark.parametrize("name", ["id", "subject", "time"])
def test_a_missing_attribute_is_named(name: str) -> None:
    headers = to_headers(an_envelope())
    del headers[f"ce-{name}"]

    with pytest.raises(Invalid, match=name):
        from_wire(headers, to_body(an_envelope()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", "many"),
        ("sequence", "1.5"),
        ("sequence", "-1"),
        ("sequence", "1_000"),
        ("sequence", "9" * 19),
        ("generation", ""),
        ("generation", "-3"),
        ("generation", "+3"),
        ("time", "yesterday"),
        ("time", ""),
        ("time", "2027-01-15T08:00:00.000"),
        ("time", "2027-01-15"),
    ],
)
def test_a_malformed_attribute_is_refused(name: str, value: str) -> None:
    with pytest.raises(Invalid, match="malformed"):
        from_wire(to_headers(an_envelope()) | {f"ce-{name}": value}, to_body(an_envelope()))


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"reason": "NoCapacity"}', "message"),
        (b'{"reason": "x", "message": ["%s"]}' % SECRET.encode(), "message"),
        (b'{"reason": {"%s": 1}}' % SECRET.encode(), "reason, message"),
        (b'["%s"]' % SECRET.encode(), "body"),
        (b"%s" % SECRET.encode(), "body"),
        (b"", "body"),
        (b"\xff\xfe", "body"),
    ],
)
def test_wrong_data_names_the_field_and_never_the_input(body: bytes, names: str) -> None:
    with pytest.raises(Invalid) as refusal:
        from_wire(to_headers(an_envelope()), body)

    assert str(refusal.value) == f"capacity.waiting.v1 has wrong data in: {names}"
    assert refusal.value.__cause__ is None


def test_a_field_that_a_newer_build_added_is_ignored() -> None:
    body = to_body(an_envelope()).replace(b"{", b'{"added_later": 1, ', 1)

    assert from_wire(to_headers(an_envelope()), body) == an_envelope()


@given(st.dictionaries(st.text(), st.text()), st.binary())
def test_junk_is_rejected_and_nothing_else_happens(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(Rejected):
        from_wire(headers, body)


def test_an_internal_event_never_leaves() -> None:
    woke = Envelope(EventId("e-1"), Woke(due_ms=1), subject="ep-1", time_ms=1)

    with pytest.raises(AssertionError, match="internal"):
        to_headers(woke)


def test_an_effect_is_the_same_again_and_keeps_the_trace() -> None:
    def tell(index: int) -> Envelope:
        data = CapacityWaiting(reason="x", message="y")
        return effect(
            an_envelope(), data, teller="claim|c-1", subject="ep-1", index=index, generation=3, sequence=9, now_ms=5
        )

    first, again, second = tell(0), tell(0), tell(1)

    assert first == again
    assert first.id != second.id
    assert (first.causation_id, first.generation, first.sequence, first.time_ms) == ("e-1", 3, 9, 5)
    version, trace, span, flags = first.traceparent.split("-")
    assert f"{version}-{trace}-{flags}" == "00-0af7651916cd43dd8448eb211c80319c-01"
    assert span != "b7ad6b7169203331"
    assert len(span) == 16


def test_an_effect_of_something_untraced_is_untraced() -> None:
    cause = replace(an_envelope(), traceparent="")
    data = CapacityWaiting(reason="x", message="y")

    told = effect(cause, data, teller="t", subject="s", index=0, generation=0, sequence=1, now_ms=1)

    assert told.traceparent == ""


def test_an_event_says_its_fact_and_whether_it_holds() -> None:
    reserved = CapacityReserved(platform_project="p", cluster="c", node_type="n", nodes=1)
    held = replace(an_envelope(), data=reserved).heard()
    taken_back = replace(an_envelope(), data=RuntimeRecovered()).heard()

    assert held is not None
    assert (held.fact, held.holds, held.generation, held.sequence) == (Fact.CAPACITY_RESERVED, True, 2, 7)
    assert taken_back is not None
    assert (taken_back.fact, taken_back.holds) == (Fact.RUNTIME_DEGRADED, False)
    assert an_envelope().heard() is None
    assert an_envelope().owner is Owner.CAPACITY_MANAGER
