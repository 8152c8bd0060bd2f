"""Shows the signed snapshot of all keys on the admin port, as the records have it: the bus may be away for that."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from libs.common.clock import Clock
from libs.common.errors import Invalid, Unavailable
from libs.common.key_snapshot import sealed
from libs.common.runner import Runner
from libs.common.signing import Ed25519Signer, Signer
from libs.common.units import MINUTE_MS, SECOND_MS
from services.endpoint_api.core.keys import VERSION_COUNTER, snapshot_of
from services.endpoint_api.core.state import Key
from services.endpoint_api.shell import metrics

ISSUE_MS: Final = 1 * MINUTE_MS  # An unchanged snapshot is issued anew this often: an hour old, none is taken.
FRESH_MS: Final = 10 * SECOND_MS  # So long after we last saw the records we say nothing: another process may know more.


class KeySnapshots:
    """Made when a key changed, and shown many times. One writer (`refresh`), readers in other threads (`page`)."""

    def __init__(self, keys: Runner[Key], clock: Clock, signer: Signer, *, epoch: int) -> None:
        self._keys = keys
        self._clock = clock
        self._signer = signer
        self._epoch = epoch
        self._content = b""
        self._version = -1
        self._issued_ms = 0
        self._looked_ms = 0

    def refresh(self) -> None:
        """Look whether a key changed. Raises Unavailable if the database does not answer."""
        now_ms = self._clock.now_ms()
        version = self._keys.store.counter(VERSION_COUNTER)  # Before the keys: they are at least as new as it.
        if version != self._version or now_ms - self._issued_ms >= ISSUE_MS:
            snapshot = snapshot_of(self._keys.every(), epoch=self._epoch, version=version, now_ms=now_ms)
            self._content = sealed(snapshot, self._signer)
            self._version, self._issued_ms = version, now_ms
            metrics.SNAPSHOT_VERSION.set(version)
        self._looked_ms = now_ms

    def page(self) -> bytes:
        """The snapshot. Raises Unavailable if the records were not seen lately."""
        if self._clock.now_ms() - self._looked_ms > FRESH_MS:
            raise Unavailable("the records of keys were not seen lately")
        return self._content


def signer_of(path: Path) -> Signer:
    """Who signs. Raises Invalid for a file that is no Ed25519 key."""
    try:
        return Ed25519Signer(path.read_bytes())
    except OSError as missing:
        wrong = f"signing key {path}: {missing.strerror}; make it with `openssl genpkey -algorithm ed25519 -out {path}`"
        raise Invalid(f"{wrong}, or unset MILLRACE_KEY_SNAPSHOT_SIGNING_FILE") from missing
