"""A head that came before is not parsed again, and means exactly what it would mean if it were."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.events.tables import KeyEntry
from services.router.core import refusals
from services.router.core.familiar import familiar
from services.router.core.http_rules import BODY_BYTES_MAX, Head
from services.router.shell.edge.intake import Intake

BODY = b'{"model":"m","messages":[]}'
HEAD = b"POST /v1/x HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\nAuthorization: Bearer k\r\nX-A: 1\r\n\r\n"
FIRST = HEAD % len(BODY) + BODY
KEY = KeyEntry(key_id="k", sha256="0" * 64, tenant_id="t", project_id="p", scopes=())


def known(_head: Head, _peer: str) -> KeyEntry:
    return KEY


def after_the_first(*, is_learned: bool) -> Intake:
    """A connection on which a request was read: at once, or in two reads, of which nothing is learned."""
    intake = Intake(known)
    for part in (FIRST,) if is_learned else (FIRST[:5], FIRST[5:]):
        intake.feed(part)
    intake.ready.clear()
    return intake


def read(intake: Intake, *parts: bytes) -> tuple[list[tuple[str, str, bytes]], int | None, str]:
    """What a connection makes of bytes: paths, keys and bodies, the refusal, what it waits for."""
    for part in parts:
        intake.feed(part)
    found = [(each.head.path, each.head.bearer, each.body()) for each in intake.ready if each.head is not None]
    return found, intake.broken.status if intake.broken else None, intake.reading.name


@given(
    st.integers(0, len(FIRST)), st.binary(max_size=3), st.integers(0, 3), st.integers(0, len(FIRST) + 3), st.booleans()
)
@example(FIRST.index(b"27"), b"+", 0, 0, False)
@example(FIRST.index(b"27"), b"0", 0, 0, False)
@example(FIRST.index(b"27") + 2, b" ", 0, 0, False)
@example(FIRST.index(b"27") + 2, b"\n", 1, 0, False)
@example(FIRST.index(b"27"), b"", 2, 0, True)
def test_a_connection_that_knows_the_head_reads_what_one_that_does_not_reads(
    at: int, put: bytes, cut: int, split: int, doubled: bool
) -> None:
    data = (FIRST[:at] + put + FIRST[at + cut :]) * (1 + doubled)

    found = [read(after_the_first(is_learned=each), data[:split], data[split:]) for each in (True, False)]

    assert found[0] == found[1]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.integers(1, 50))
def test_bodies_of_any_length_come_whole_however_they_are_read(bodies: list[bytes], step: int) -> None:
    data = b"".join(HEAD % len(each) + each for each in bodies)
    intake = after_the_first(is_learned=True)

    found, broken, _ = read(intake, *(data[at : at + step] for at in range(0, len(data), step)))

    assert [each[2] for each in found] == bodies
    assert broken is None


LEARNED = familiar(FIRST, Head("POST", "/v1/x", "k", len(BODY), keep_alive=True, expects_continue=False))


@given(st.integers(0, 12_000), st.integers(-1, 1), st.binary(max_size=2), st.integers(0, len(FIRST)))
@example(8, 1, b"", 0)
@example(28, 0, b"0", FIRST.index(b"27"))
@example(27, 0, b"-", FIRST.index(b"27"))
def test_a_request_that_is_whole_is_this_head_and_so_long_a_body_and_nothing_else(
    length: int, more: int, put: bytes, at: int
) -> None:
    assert LEARNED is not None
    sound = HEAD % length + b"x" * length
    torn = HEAD % length + b"x" * max(0, length + more)
    spoilt = sound[:at] + put + sound[at:]

    for data in (sound, torn, spoilt):
        body, found = LEARNED.whole(data), LEARNED.body_of(data)

        if body is not None:
            assert found is not None, "the one that reads digit by digit does not know it"
            assert (body, len(data)) == (data[found[0] :], sum(found))
    # Whose length has a digit less than that of body and length together: ours to read with care.
    is_near_a_power = len(str(length + len(str(length)))) > len(str(length))
    assert LEARNED.whole(sound) == (None if is_near_a_power else b"x" * length)


def test_the_key_is_checked_each_time() -> None:
    heard: list[Head] = []

    def once(head: Head, _peer: str) -> KeyEntry:
        heard.append(head)
        if len(heard) > 1:
            raise refusals.invalid_key()
        return KEY

    intake = Intake(once)
    intake.feed(FIRST)
    intake.feed(FIRST)

    assert len(intake.ready) == 1
    assert intake.broken is not None
    assert intake.broken.status == 401


@pytest.mark.parametrize("length", [BODY_BYTES_MAX + 1, 10**17, 10**30])
def test_a_body_that_is_too_long_is_refused_from_a_known_head_too(length: int) -> None:
    found, broken, _ = read(after_the_first(is_learned=True), HEAD % length)

    assert (found, broken) in (([], 413), ([], 400))


@pytest.mark.parametrize(
    "more", [{"expects_continue": True}, {"keep_alive": False}, {"body_bytes": None}, {"body_bytes": 3}]
)
def test_what_may_mean_something_else_next_time_is_not_learned(more: dict[str, object]) -> None:
    plain = {"method": "POST", "path": "/", "bearer": "", "body_bytes": 27, "keep_alive": True}
    head = Head(**{**plain, "expects_continue": False, **more})  # type: ignore[arg-type]

    assert familiar(FIRST, head) is None
    assert familiar(FIRST, Head(**{**plain, "expects_continue": False})) is not None  # type: ignore[arg-type]
