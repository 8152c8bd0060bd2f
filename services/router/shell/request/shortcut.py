"""The way of a stream's event from the engine's socket to its client's, once the form of its events is known.

Nearly all take it, and of hundreds of streams none finds its things in the processor's caches. So what counts is how
little is touched: one function, and of a stream few objects.
"""

from __future__ import annotations

from libs.common.clock import Clock
from services.router.core.event_forms import SIZE_LINES, Form, chunk_bytes
from services.router.core.serving import Serving
from services.router.shell.edge.client import Client
from services.router.shell.ports import UsageJournal


class Shortcut:
    """That of one stream, while its client is answered."""

    __slots__ = ("_client", "_clock", "_instead", "_journal", "_match", "_more_bytes", "_prompt", "_serving")

    def __init__(self, client: Client, serving: Serving, journal: UsageJournal, clock: Clock) -> None:
        self._client = client
        self._serving = serving
        self._journal = journal
        self._clock = clock

    def know(self, form: Form) -> None:
        """What an event looks like that may take it."""
        self._match, self._prompt, self._instead = form.match, form.prompt, form.instead
        self._more_bytes = len(form.instead) - len(b"\r\n")

    def take(self, data: bytes) -> bool:
        """Pass on what the engine's socket gave, if that is one chunk of the known form; says whether it is.

        It does what `StreamedAnswer.feed`, `Outgoing.write` and `Serving.relayed` do one after the other.
        """
        match, client = self._match, self._client
        found = match(data)
        if found is None or not client.is_open:
            return False
        size, event, prompt, count = found.groups()
        length = len(data)
        if chunk_bytes(size) != length or prompt != self._prompt:
            return False
        if event:
            data = SIZE_LINES[len(event) + self._more_bytes] + event + self._instead
            length = len(data)
        transport, serving = client.transport, self._serving
        transport.write(data)
        client.written = end = client.written + length
        taken = end - transport.get_write_buffer_size()
        if taken > client.taken:
            client.taken = taken
        tokens = serving.tokens
        if taken < serving.end:
            serving.behind.append((serving.end, tokens))
        else:
            serving.delivered = tokens
        serving.end = end
        running = int(count) if count else tokens + 1
        if running < tokens:
            running = tokens
        serving.tokens = running
        if running >= serving.due_tokens:
            self.note_sent()
        return True

    def note_sent(self) -> None:
        """Ask the socket what it has taken, and write a checkpoint if one is due."""
        due = self._serving.sent(self._client.sent(), self._clock.now_ms())
        if due is not None:
            self._journal.checkpoint(due)
