"""The PROXY protocol, versions 1 and 2: what a load balancer says of the client before the client's first byte."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from libs.common.errors import Rejected

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
LINE_BYTES_MAX: Final = 107  # Of version 1, as its specification says.
EXTRA_BYTES_MAX: Final = 2048  # Of version 2: addresses and what may come with them.
_HEAD: Final = struct.Struct("!12sBBH")
_ADDRESS_BYTES: Final = {0x11: 4, 0x21: 16}  # TCP over IPv4 and IPv6.


class BadPreface(Rejected):
    """What the connection begins with is no PROXY header."""

    code = "bad_preface"


@dataclass(frozen=True, slots=True)
class Preface:
    """Who connected to the load balancer, and how many bytes it took to say so. No client: it speaks for itself."""

    client: str | None
    length: int


def read(data: bytes) -> Preface | None:
    """The header that ``data`` begins with; None if more is needed. Raises BadPreface."""
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _binary(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _line(data)
    raise BadPreface("a PROXY header was expected")


def _line(data: bytes) -> Preface | None:
    end = data.find(b"\r\n", 0, LINE_BYTES_MAX)
    if end < 0:
        if len(data) >= LINE_BYTES_MAX:
            raise BadPreface("the PROXY line does not end")
        return None
    words = data[:end].decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return Preface(None, end + 2)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6") or not (words[4].isdigit() and words[5].isdigit()):
        raise BadPreface("the PROXY line is malformed")
    return Preface(_client(words[2], 4 if words[1] == "TCP4" else 6), end + 2)


def _binary(data: bytes) -> Preface | None:
    if len(data) < _HEAD.size:
        return None
    _, command, family, extra = _HEAD.unpack_from(data)
    if command not in (0x20, 0x21) or extra > EXTRA_BYTES_MAX:
        raise BadPreface("the PROXY header is malformed")
    if len(data) < _HEAD.size + extra:
        return None
    if command == 0x20 or family == 0:  # A health check of the load balancer itself.
        return Preface(None, _HEAD.size + extra)
    size = _ADDRESS_BYTES.get(family)
    if size is None or extra < 2 * size + 4:
        raise BadPreface("the PROXY header is of no TCP connection")
    return Preface(str(ipaddress.ip_address(data[_HEAD.size : _HEAD.size + size])), _HEAD.size + extra)


def _client(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise BadPreface("the PROXY line has no address") from None
    if address.version != version:
        raise BadPreface("the PROXY line has an address of another kind")
    return str(address)
