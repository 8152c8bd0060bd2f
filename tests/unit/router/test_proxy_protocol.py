"""PROXY headers: what is read, what waits for more, what is refused."""

from __future__ import annotations

import struct

import pytest

from services.router.core.proxy_protocol import SIGNATURE, BadPreface, Preface, read


def binary(command: int, family: int, extra: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(extra)) + extra


V4 = bytes([192, 0, 2, 1]) + bytes([10, 0, 0, 1]) + b"\x1f\x90\x00\x50"
V6 = bytes(15) + b"\x01" + bytes(16) + b"\x1f\x90\x00\x50"
GOOD = {
    b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n": "192.0.2.1",
    b"PROXY TCP6 2001:db8::1 ::1 8080 80\r\n": "2001:db8::1",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    binary(0x21, 0x11, V4): "192.0.2.1",
    binary(0x21, 0x11, V4 + b"\x04\x00\x03abc"): "192.0.2.1",
    binary(0x21, 0x21, V6): "::1",
    binary(0x20, 0x00, b""): None,
}


@pytest.mark.parametrize(("header", "client"), GOOD.items())
def test_a_header_is_read_whole_and_waited_for_in_pieces(header: bytes, client: str | None) -> None:
    assert read(header + b"GET / HTTP/1.1\r\n") == Preface(client, len(header))
    assert [read(header[:length]) for length in range(len(header))] == [None] * len(header)


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 8080\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 8080 80\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 -1 80\r\n",
        b"PROXY TCP4 300.0.2.1 10.0.0.1 8080 80\r\n",
        b"PROXY UDP4 192.0.2.1 10.0.0.1 8080 80\r\n",
        b"PROXY " + b"x" * 200,
        b"\x16\x03\x01\x02\x00\x01",
        binary(0x11, 0x11, V4),
        binary(0x21, 0x12, V4),
        binary(0x21, 0x11, V4[:8]),
        binary(0x21, 0x11, bytes(4000)),
    ],
)
def test_anything_else_is_refused(bad: bytes) -> None:
    with pytest.raises(BadPreface):
        read(bad)
