"""multipart/form-data (RFC 7578), read strictly and written anew: what can be understood in two ways is refused.

A form that an engine reads begins and ends where we say so: its boundary is ours, and a form that contains it is not
passed on. Of a file's name only the ending is kept, by which engines tell formats apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from libs.common.units import KIB
from services.router.core.refusals import HttpRefusal

PARTS_MAX: Final = 32
PART_HEAD_BYTES_MAX: Final = 4 * KIB
BOUNDARY: Final = b"millrace-form-6f1d0c5be2a94f7c"  # Fixed, so that the head of a request need not be built anew.
CONTENT_TYPE: Final = b"multipart/form-data; boundary=" + BOUNDARY
_DELIMITER: Final = b"--" + BOUNDARY
BINARY: Final = b"application/octet-stream"

_CHARSET: Final = (
    rb"charset=\"?[A-Za-z0-9_-]{1,32}\"?"  # Said by Spring's client before the boundary, by Apache's after it.
)
_TYPE: Final = re.compile(
    rb"multipart/form-data\s*;\s*(?:%s\s*;\s*)?boundary=(\"?)([0-9A-Za-z'()+_,./:=? -]{1,70})\1(?:\s*;\s*%s)?"
    % (_CHARSET, _CHARSET),
    re.IGNORECASE,
)
_DISPOSITION: Final = re.compile(rb"form-data((?:\s*;\s*[a-z]+\*?=(?:\"(?:[^\"\\]|\\.)*\"|[^\s\";]+))+)", re.IGNORECASE)
_PARAMETER: Final = re.compile(rb";\s*([a-z]+\*?)=(\"(?:[^\"\\]|\\.)*\"|[^\s\";]+)", re.IGNORECASE)
_NAME: Final = re.compile(rb"[A-Za-z0-9_]{1,64}(?:\[\])?")
_ENDING: Final = re.compile(rb"\.[A-Za-z0-9]{1,8}$")
_MEDIA: Final = re.compile(rb"(?:audio|video)/[A-Za-z0-9.+-]{1,64}")
_ENCODINGS: Final = frozenset({b"binary", b"8bit", b"7bit"})  # All of them mean: as it is.


class Part(msgspec.Struct, frozen=True):
    """A field of a form. `ending` is that of a file's name, with its dot; None: not a file."""

    name: str
    content: bytes | memoryview
    ending: bytes | None = None
    media: bytes = BINARY

    def written(self) -> bytes:
        """The part as an engine reads it, without its delimiter."""
        head = b'content-disposition: form-data; name="%s"' % self.name.encode()
        if self.ending is not None:
            head += b'; filename="file%s"\r\ncontent-type: %s' % (self.ending, self.media)
        return b"%s\r\n\r\n%s" % (head, self.content)


def read_form(content_type: bytes, body: bytes) -> list[Part]:
    """The parts of a form in their order. Raises HttpRefusal, which never carries content."""
    found = _TYPE.fullmatch(content_type.strip())
    if found is None:
        raise HttpRefusal(400, "The request must be multipart/form-data with one boundary.")
    if BOUNDARY in body:
        raise _malformed("it can't be passed on")
    delimiter = b"--" + found.group(2)
    if not body.startswith(delimiter + b"\r\n"):
        raise _malformed("it does not begin with its boundary")
    ends = b"\r\n" + delimiter
    parts: list[Part] = []
    at = len(delimiter) + 2
    while True:
        end = body.find(ends, at - 2)
        if end < 0:
            raise _malformed("its last boundary is missing")
        if len(parts) == PARTS_MAX:
            raise _malformed(f"it has more than {PARTS_MAX} parts")
        parts.append(_part(body, at, end))
        at = end + len(ends)
        mark, at = body[at : at + 2], at + 2
        if mark == b"--" and body[at:] in (b"", b"\r\n"):
            return parts
        if mark != b"\r\n":
            raise _malformed("a boundary is followed by something else")


def written_form(parts: Iterable[bytes | msgspec.Raw]) -> bytes:
    """A form of parts as `Part.written` makes them."""
    out: list[bytes | msgspec.Raw] = []
    for each in parts:
        out += (_DELIMITER, b"\r\n", each, b"\r\n")
    return b"".join((*out, _DELIMITER, b"--\r\n"))


def _part(body: bytes, begin: int, end: int) -> Part:
    head_end = body.find(b"\r\n\r\n", begin, min(end, begin + PART_HEAD_BYTES_MAX))
    if head_end < 0:
        raise _malformed("a part has no headers, or too many")
    said = _headers(body[begin:head_end])
    disposition = _DISPOSITION.fullmatch(said.get(b"content-disposition", b""))
    named = _PARAMETER.findall(disposition.group(1)) if disposition else []
    parameters = {name.lower(): value for name, value in named}
    name = parameters.get(b"name", b"").strip(b'"')
    if len(parameters) < len(named) or _NAME.fullmatch(name) is None:
        raise _malformed("a part has no name that we take")
    content = memoryview(body)[head_end + 4 : end]
    file = parameters.get(b"filename")
    if file is None:
        return Part(name.decode(), content)
    ending, media = _ENDING.search(file.strip(b'"')), _MEDIA.match(said.get(b"content-type", b""))
    return Part(name.decode(), content, ending.group() if ending else b"", media.group() if media else BINARY)


def _headers(head: bytes) -> dict[bytes, bytes]:
    said: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or name in said or b"\r" in value or b"\n" in value:
            raise _malformed("a part has headers that we do not take")
        said[name] = value.strip()
    if said.get(b"content-transfer-encoding", b"binary").lower() not in _ENCODINGS:
        raise _malformed("a part is encoded")
    return said


def _malformed(why: str) -> HttpRefusal:
    return HttpRefusal(400, f"The form is malformed: {why}.")
