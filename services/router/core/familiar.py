"""A head that came before on the same connection: peers repeat theirs byte for byte, but for the length of the body.

What was parsed strictly once and was good needs no parsing again; only the digits of its Content-Length are read. A
head that differs by a single other byte is a stranger, and is parsed. Clients' heads, and those of engines' answers.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from services.router.core.http_rules import BODY_BYTES_MAX, Head

END: Final = b"\r\n\r\n"
NAME: Final = b"\r\ncontent-length:"
DIGITS_MAX: Final = len(str(BODY_BYTES_MAX))
Meaning = TypeVar("Meaning")


class Familiar(msgspec.Struct, Generic[Meaning], frozen=True, gc=False):
    """A head as it came: the bytes before the digits of its Content-Length, those after them, what they mean."""

    before: bytes
    after: bytes
    head: Meaning
    before_bytes: int
    after_bytes: int

    def body_of(self, data: bytes) -> tuple[int, int] | None:
        """Where in ``data`` the body begins and how long it is; None if the head is not this one, or not whole."""
        if not data.startswith(self.before):
            return None
        begin = self.before_bytes
        end = data.find(b"\r", begin, begin + DIGITS_MAX + 1)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return None
        length = int(digits)
        return (end + self.after_bytes, length) if length <= BODY_BYTES_MAX else None

    def whole(self, data: bytes) -> bytes | None:
        """The body, if ``data`` is this head and all of its body, and no more than that."""
        begin = self.before_bytes
        end = data.find(b"\r", begin, begin + DIGITS_MAX + 1)
        digits = data[begin:end]
        if not data.startswith(self.before) or not digits.isdigit() or not data.startswith(self.after, end):
            return None
        body = data[end + self.after_bytes :]
        return body if len(body) == int(digits) <= BODY_BYTES_MAX else None


def familiar(data: bytes, head: Head) -> Familiar[Head] | None:
    """What ``data`` began with, which was parsed as ``head``; None if its like may mean something else next time."""
    if head.body_bytes is None or head.expects_continue or not head.keep_alive:
        return None
    return learned(data, head, body_bytes=head.body_bytes)


def learned(data: bytes, head: Meaning, *, body_bytes: int) -> Familiar[Meaning] | None:
    """What ``data`` began with, a head that means ``head`` and says that a body of so many bytes follows."""
    end = data.find(END)
    at = data[:end].lower().find(NAME)
    if end < 0 or at < 0:
        return None
    begin = at + len(NAME)
    while data[begin : begin + 1] in (b" ", b"\t"):
        begin += 1
    digits = b"%d" % body_bytes
    if not data.startswith(digits + b"\r\n", begin):
        return None
    before, after = data[:begin], data[begin + len(digits) : end + len(END)]
    return Familiar(before, after, head, len(before), len(after))
