"""A name server for tests, over UDP and TCP: it knows texts, and can be made to answer wrongly."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

A_RECORD = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + b"\x0a\x00\x00\x01"


class NameServer:
    """Answers from threads of its own. ``way``: how its answers are wrong; ``cuts``: over UDP nothing fits."""

    def __init__(self, texts: Mapping[str, tuple[str, ...]], *, way: str = "", cuts: bool = False) -> None:
        self.texts = dict(texts)
        self._way = way
        self._cuts = cuts
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = ("127.0.0.1", self._tcp.getsockname()[1])
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(self.address)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._serve_udp, self._serve_tcp)]

    def __enter__(self) -> NameServer:
        """Begin."""
        for each in (self._udp, self._tcp):
            each.settimeout(0.1)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                query, whose = self._udp.recvfrom(512)
                answer = self._answer(query, is_cut=self._cuts)
                if answer:
                    self._udp.sendto(answer, whose)

    def _serve_tcp(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError), self._tcp.accept()[0] as taken:
                taken.settimeout(30)
                query = taken.recv(512)[2:]
                answer = self._answer(query, is_cut=False)
                taken.sendall(struct.pack(">H", len(answer)) + answer)

    def _answer(self, query: bytes, *, is_cut: bool) -> bytes:
        id, question = query[:2], query[12:]
        name = _name_in(question)
        texts = () if is_cut else self.texts.get(name, ())
        records = [A_RECORD, *(_record(each) for each in texts)] if texts else []
        code = 0 if name in self.texts else 3
        match self._way:
            case "silence":
                return b""
            case "no DNS":
                return b"HTTP/1.1 400 Bad Request\r\n\r\n"
            case "another id":
                id = bytes([id[0] ^ 1, id[1]])
            case "another question":
                question = question.replace(b"acme", b"evil")
            case "a failure":
                code = 2
        flags = 0x8180 | code | (0x0200 if is_cut else 0)
        return id + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records)


def _name_in(question: bytes) -> str:
    labels, at = [], 0
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    return ".".join(labels)


def _record(text: str) -> bytes:
    data = text.encode()
    strings = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255))
    return b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 60, len(strings)) + strings
