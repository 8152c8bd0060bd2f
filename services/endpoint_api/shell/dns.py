"""Asking DNS for the texts of a name, of the resolvers that the operator names, or else the machine's own.

A resolver is trusted as the network to it is: it should be near. What comes back has to be an answer to exactly what
was asked (the socket is connected, its port and the id are drawn); one that is cut short is asked for over TCP.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from libs.common.errors import Invalid, Unavailable
from libs.common.ids import Entropy

PORT: Final = 53
TIMEOUT_S: Final = 2.0  # Of each try; a command waits for no more than all of them.
TRIES: Final = 2  # Of each resolver: a datagram may be lost.
SERVERS_MAX: Final = 3  # As resolv.conf has it.
RESOLV_CONF: Final = Path("/etc/resolv.conf")
UDP_BYTES_MAX: Final = 4096
TXT: Final = 16
IN: Final = 1
POINTER: Final = 0xC0
QUERY_FLAGS: Final = 0x0100  # A plain question; ask others for us.
IS_ANSWER: Final = 0x8000
IS_CUT: Final = 0x0200
NO_SUCH_NAME: Final = 3
RETRY_S: Final = 5.0
HEAD: Final = struct.Struct(">HHHHHH")

Server = tuple[str, int]


class Dns:
    """The port `Texts`, over the network."""

    def __init__(self, servers: tuple[Server, ...], entropy: Entropy, *, timeout_s: float = TIMEOUT_S) -> None:
        self._servers = servers
        self._entropy = entropy
        self._timeout_s = timeout_s

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of its TXT records; none if there are none. Raises Unavailable if no resolver answers."""
        for server in (self._servers or _machines_own()) * TRIES:
            try:
                return self._ask(server, name)
            except (OSError, ValueError, struct.error, IndexError):
                continue  # The next, or this one again: all of them are asked before it is said.
        raise Unavailable("no DNS resolver answered; try again", retry_after_s=RETRY_S)

    def _ask(self, server: Server, name: str) -> tuple[str, ...]:
        id = int.from_bytes(self._entropy.token_bytes(2), "big")
        labels = b"".join(bytes([len(each)]) + each for each in name.encode("ascii").split(b"."))
        question = labels + b"\0" + struct.pack(">HH", TXT, IN)
        query = HEAD.pack(id, QUERY_FLAGS, 1, 0, 0, 0) + question
        answer = self._over_udp(server, query)
        if _flags_of(answer, query) & IS_CUT:
            answer = self._over_tcp(server, query)
        code = _flags_of(answer, query) & 0xF
        if code not in (0, NO_SUCH_NAME):
            raise ValueError(f"the resolver says {code}")
        return tuple(_texts_in(answer, after=len(query)))

    def _over_udp(self, server: Server, query: bytes) -> bytes:
        with socket.socket(_family(server), socket.SOCK_DGRAM) as asking:
            asking.settimeout(self._timeout_s)
            asking.connect(server)
            asking.send(query)
            return asking.recv(UDP_BYTES_MAX)

    def _over_tcp(self, server: Server, query: bytes) -> bytes:
        with socket.create_connection(server, timeout=self._timeout_s) as asking:
            asking.sendall(struct.pack(">H", len(query)) + query)
            with asking.makefile("rb") as reading:
                (length,) = struct.unpack(">H", reading.read(2))
                return reading.read(length)


def servers_of(text: str) -> tuple[Server, ...]:
    """``1.2.3.4,[::1]:5353`` as addresses and ports. Raises Invalid."""
    return tuple(_server(each.strip()) for each in text.split(",") if each.strip())


def _server(text: str) -> Server:
    address, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", str(PORT))
    try:
        number = int(port)
        found = str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        raise Invalid(f"MILLRACE_DNS_SERVERS: {text} is no ADDRESS or ADDRESS:PORT") from None
    return found, number


def _machines_own() -> tuple[Server, ...]:
    """The resolvers of resolv.conf, read anew: they may change while we run."""
    try:
        lines = RESOLV_CONF.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ()
    found = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
    return tuple((each, PORT) for each in found[:SERVERS_MAX])


def _family(server: Server) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET


def _flags_of(answer: bytes, query: bytes) -> int:
    """The flags of an answer to this query. Raises ValueError for anything else."""
    id, flags, questions, *_ = HEAD.unpack_from(answer)
    asked = slice(HEAD.size, len(query))
    if id != int.from_bytes(query[:2], "big") or not flags & IS_ANSWER or questions != 1:
        raise ValueError("not an answer to what was asked")
    if answer[asked].lower() != query[asked].lower():
        raise ValueError("an answer to another question")
    return int(flags)


def _texts_in(answer: bytes, *, after: int) -> Iterator[str]:
    """The texts of the answer's records, each put together from its strings."""
    at, count = after, HEAD.unpack_from(answer)[3]
    for _ in range(count):
        while answer[at] and answer[at] < POINTER:
            at += 1 + answer[at]
        at += 2 if answer[at] >= POINTER else 1
        kind, family, _, length = struct.unpack_from(">HHIH", answer, at)
        at += 10
        data, at = answer[at : at + length], at + length
        if (kind, family) == (TXT, IN):
            yield b"".join(_strings_in(data)).decode("utf-8", "replace")


def _strings_in(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
