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
    around_bytes: int  # Of both.

    def body_of(self, data: bytes) -> tuple[int, int] | None:
        """Where in ``data`` the body begins and how long it is; None if the head is not this one, or not whole."""
        if not data.startswith(self.before):
            return None
        begin = len(self.before)
        end = data.find(b"\r", begin, begin + DIGITS_MAX + 1)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return None
        length = int(digits)
        return (end + len(self.after), length) if length <= BODY_BYTES_MAX else None

    def whole(self, data: bytes) -> bytes | None:
        """The body, if ``data`` is this head and all of its body, and no more than that.

        Then its head follows from how much it is, and the two are compared at once. A body that lacks a few bytes to a
        power of ten has a digit less than we take it to have; it is left to the parser.
        """
        data_bytes = len(data)
        rest = data_bytes - self.around_bytes  # The body, and the digits that say how long it is.
        body_bytes = rest - len(str(rest))
        head = b"%b%d%b" % (self.before, body_bytes, self.after)
        begin = len(head)
        if not data.startswith(head) or begin + body_bytes != data_bytes or body_bytes > BODY_BYTES_MAX:
            return None
        return data[begin:]


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
    return Familiar(before, after, head, len(before) + len(after))
