"""Pulling the signed snapshot of keys over HTTP: how a revocation gets here when the bus is silent or gone.

It is pulled whether the bus works or not: a watch that is silent looks like a world in which nothing happens. What
has not changed costs a question and a 304.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from libs.common.clock import Clock
from libs.common.errors import Invalid, Unavailable
from libs.common.key_snapshot import KeySnapshot, opened
from libs.common.signing import Ed25519Checker
from libs.common.telemetry.logging import fields
from libs.common.units import MIB, SECOND_MS
from services.router.core.key_snapshots import Verdict
from services.router.shell import metrics
from services.router.shell.settings import RouterSettings

log = logging.getLogger(__name__)

CONFIRMED: Final = "confirmed"  # Outcomes beside the verdicts: nothing changed,
UNSIGNED: Final = "unsigned"  # not whole, or not signed by whom we trust,
AWAY: Final = "away"  # nobody there who can say.
GOOD: Final = (Verdict.TAKEN, CONFIRMED)  # Somebody told what is so of keys.
BYTES_MAX: Final = 64 * MIB  # A quarter of a million keys.
TIMEOUT_S: Final = 3.0  # For a connection, for each silence, and for all of it: it answers from memory.
RETRY_S: Final = 2.0  # After a pull that brought nothing, as when both of us just started.
PIECE_BYTES: Final = 256 * 1024
NAMED_MAX: Final = 20  # Keys of one snapshot in the log.

Take = Callable[[KeySnapshot], tuple[Verdict, tuple[str, ...]]]


class KeySnapshots:
    """Asks one address, and has what is new and true taken by ``take``."""

    def __init__(
        self, take: Take, clock: Clock, *, url: str, public_file: str, period_s: float, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._take = take
        self._clock = clock
        self._url = urlsplit(url)
        self._trusted = ssl.create_default_context() if self._url.scheme == "https" else None
        self._public_file = Path(public_file)
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._etag = ""
        self._outcome = ""
        self._told_ms = clock.now_ms()

    def age_s(self) -> float:
        """Seconds since we last heard what is so of keys; since the start, if never."""
        return (self._clock.now_ms() - self._told_ms) / SECOND_MS

    def is_fresh(self) -> bool:
        """Whether somebody tells us what is so of keys now."""
        return self._outcome in GOOD

    async def run(self) -> None:
        """Pull until cancelled."""
        while True:
            await asyncio.to_thread(self.round)
            await asyncio.sleep(self._period_s if self.is_fresh() else min(self._period_s, RETRY_S))

    def round(self) -> str:
        """Pull once; what came of it. Raises nothing: what is known is served on."""
        try:
            outcome, reason = self._pulled()
        except Invalid as wrong:
            outcome, reason = UNSIGNED, str(wrong)
        except (Unavailable, OSError, http.client.HTTPException) as away:
            outcome, reason = AWAY, str(away) or type(away).__name__
        if outcome in GOOD:
            self._told_ms = self._clock.now_ms()
        metrics.KEY_SNAPSHOTS.labels(outcome=outcome).inc()
        self._say(outcome, reason)
        return outcome

    def _pulled(self) -> tuple[str, str]:
        checker = Ed25519Checker(self._public_file.read_bytes())
        etag, content = self._fetched()
        if content is None:
            return CONFIRMED, ""
        snapshot = opened(content, checker)
        outcome, ended = self._take(snapshot)
        self._etag = etag if outcome is Verdict.TAKEN else ""
        metrics.KEYS_ENDED.inc(len(ended))
        for key_id in ended[:NAMED_MAX]:
            log.warning("key ended by a snapshot; the bus had not said so", extra=fields(key_id=key_id))
        return outcome, f"epoch {snapshot.epoch}, version {snapshot.version}, issued {snapshot.issued_at_ms} ms"

    def _fetched(self) -> tuple[str, bytes | None]:
        """The snapshot and its ETag; None if it is the one that was taken last."""
        connection = self._connection()
        try:
            headers = {"connection": "close", **({"if-none-match": self._etag} if self._etag else {})}
            connection.request("GET", self._url.path, headers=headers)
            answer = connection.getresponse()
            if answer.status == http.client.NOT_MODIFIED:
                return self._etag, None
            if answer.status != http.client.OK:
                raise Unavailable(f"answered {answer.status}")
            return answer.getheader("etag", ""), self._read(answer)
        finally:
            connection.close()

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        pieces, bytes_left, deadline_s = [], BYTES_MAX, time.monotonic() + self._timeout_s
        while piece := answer.read1(PIECE_BYTES):
            pieces.append(piece)
            bytes_left -= len(piece)
            if bytes_left < 0 or time.monotonic() > deadline_s:
                raise Unavailable(f"sent more than {BYTES_MAX} bytes, or took more than {self._timeout_s} s")
        return b"".join(pieces)

    def _connection(self) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        if self._trusted is not None:
            return http.client.HTTPSConnection(host, self._url.port, timeout=self._timeout_s, context=self._trusted)
        return http.client.HTTPConnection(host, self._url.port, timeout=self._timeout_s)

    def _say(self, outcome: str, reason: str) -> None:
        """A line when it begins to be otherwise."""
        is_good, was_good = outcome in GOOD, self.is_fresh()
        if not is_good and outcome != self._outcome:
            log.warning("no snapshot of keys; going by what is known", extra=fields(code=outcome, reason=reason))
        elif is_good and not was_good:
            log.info("snapshots of keys come", extra=fields(code=outcome, reason=reason))
        self._outcome = outcome


def key_snapshots_of(settings: RouterSettings, take: Take, clock: Clock) -> KeySnapshots | None:
    """As the settings say; None if they name nobody to ask."""
    if not settings.key_snapshot_url:
        return None
    found = KeySnapshots(
        take,
        clock,
        url=settings.key_snapshot_url,
        public_file=settings.key_snapshot_public_file,
        period_s=settings.key_snapshot_pull_s,
    )
    metrics.KEY_SNAPSHOT_AGE.set_function(found.age_s)
    return found
