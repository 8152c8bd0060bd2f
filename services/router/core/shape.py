"""What the JSON of a request may look like before anybody reads it: how deep, and of how many values.

A worker reads one request at a time, and all streams wait meanwhile: 10 MiB of brackets took a second of everybody's,
10 MiB of text take a hundredth. So a large body is counted first, by searches that cost little whatever they find.
"""

from __future__ import annotations

from typing import Final

from libs.common.units import KIB
from services.router.core.refusals import HttpRefusal
from services.router.core.surface import DEPTH_MAX

LARGE_BYTES: Final = 256 * KIB  # Below, the worst that can be said takes 10 ms.
STRINGS_MAX: Final = 131_072  # Of a conversation of 30,000 messages.
VALUES_MAX: Final = 1_048_576  # A batch of texts as tokens, each a number.
CONTAINERS_MAX: Final = 65_536  # Objects and arrays.


def check_strings(body: bytes) -> None:
    """Raises HttpRefusal for a body of more strings than we read.

    What begins a string stands behind no backslash, so there are no more of them than of such quotes.
    """
    if body.count(b'"') - body.count(b'\\"') > 2 * STRINGS_MAX:
        raise _too_many(STRINGS_MAX, "strings")


def check_depth(body: bytes) -> None:
    """Raises HttpRefusal for a body that is nested too deep, or large and of more values than we read.

    Of a text without escapes every other part between quotes is outside of strings; the rest is counting.
    """
    is_large = len(body) > LARGE_BYTES
    if not is_large and not _may_be_deep(body):
        return
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(plain.split(b'"')[::2])
    marks = outside.translate(None, _NO_MARKS)
    if is_large and outside.count(b",") > VALUES_MAX:
        raise _too_many(VALUES_MAX, "values")
    if is_large and len(marks) > 2 * CONTAINERS_MAX:
        raise _too_many(CONTAINERS_MAX, "objects and arrays")
    depth = 0
    for each in marks:
        depth += 1 if each in b"[{" else -1
        if depth > DEPTH_MAX:
            raise HttpRefusal(400, f"The request body is nested deeper than {DEPTH_MAX} levels.")


_NO_MARKS: Final = bytes(each for each in range(256) if each not in b"[]{}")


def _may_be_deep(body: bytes) -> bool:
    for mark in (b"{", b"["):
        at, few = body.find(mark), DEPTH_MAX // 2  # To `count` them would read all of the body slowly.
        while at >= 0 and few:
            at, few = body.find(mark, at + 1), few - 1
        if at >= 0:
            return True
    return False


def _too_many(most: int, what: str) -> HttpRefusal:
    return HttpRefusal(400, f"The request body has more than {most:,} {what}.")
