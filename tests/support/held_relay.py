"""A wire to another server that can be held: after so many bytes of answers nothing more comes until it is let go."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final

BLOCK_BYTES: Final = 16 * 1024


class HeldRelay:
    """Passes everything on, and holds answers once `held_at_bytes` of them came."""

    def __init__(self, to: tuple[str, int], held_at_bytes: int) -> None:
        self._to = to
        self._left = held_at_bytes
        self._lock = threading.Lock()
        self.released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), reuse_port=False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Accept until closed."""
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                for source, sink, is_held in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pump, args=(source, sink, is_held), daemon=True).start()

    def close(self) -> None:
        """Let go, and accept no more."""
        self.released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _pump(self, source: socket.socket, sink: socket.socket, is_held: bool) -> None:
        with contextlib.suppress(OSError), source, sink:
            while block := source.recv(BLOCK_BYTES):
                if is_held:
                    self._wait(len(block))
                sink.sendall(block)

    def _wait(self, count_bytes: int) -> None:
        with self._lock:
            self._left -= count_bytes
            is_over = self._left < 0
        if is_over:
            self.released.wait()


@contextlib.contextmanager
def held(host: str, port: int, *, at_bytes: int) -> Iterator[HeldRelay]:
    """A relay that runs."""
    relay = HeldRelay((host, port), at_bytes)
    thread = threading.Thread(target=relay.run, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join()
