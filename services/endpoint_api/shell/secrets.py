"""Secrets that are computed, never stored: of webhooks, and of positions in a watch.

All come from one master secret: the operator's file, or else 32 bytes that the first process put into the database.
So no record, journal row or audit row of a webhook holds its secret. Who has the master has all: without the operator's
file, whoever can read the database or a backup of it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from libs.common.errors import Stale
from libs.common.ids import Entropy
from libs.common.store.port import Record, Store
from services.endpoint_api.core.refusal import FieldRefused

KIND: Final = "master"
KEY: Final = "secret"
MASTER_BYTES: Final = 32
BLOCK_BYTES: Final = 16
PREFIX: Final = "whsec_"


class Secrets:
    """What can be computed from the master secret."""

    def __init__(self, store: Store, entropy: Entropy, given: bytes = b"") -> None:
        self._store = store
        self._entropy = entropy
        self._master = given

    def of_webhook(self, webhook_id: str, secret_no: int) -> str:
        """A webhook's secret, as its owner is shown it once."""
        return PREFIX + base64.b64encode(self._derive(f"webhook|{webhook_id}|{secret_no}")).decode()

    def sign(self, secret: str, *, id: str, at_s: int, body: str) -> str:
        """One signature of Standard Webhooks."""
        key = base64.b64decode(secret.removeprefix(PREFIX))
        signed = hmac.new(key, f"{id}.{at_s}.{body}".encode(), hashlib.sha256).digest()
        return f"v1,{base64.b64encode(signed).decode()}"

    def position_id(self, home: str, position: int) -> str:
        """A position as a client of this project sees it: opaque, so that it tells nothing of how much others do."""
        block = self._mark(home) + position.to_bytes(8, "big")
        encryptor = self._cipher().encryptor()
        return base64.urlsafe_b64encode(encryptor.update(block)).decode().rstrip("=")

    def position(self, home: str, shown: str) -> int:
        """The position again. Raises FieldRefused if it is not one that this project was shown."""
        try:
            block = base64.b64decode(shown + "==", altchars=b"-_", validate=True)
        except ValueError:
            block = b""
        plain = self._cipher().decryptor().update(block) if len(block) == BLOCK_BYTES else b""
        if not plain or not hmac.compare_digest(plain[:8], self._mark(home)):
            raise FieldRefused("Last-Event-ID", "is not one that a watch of this project gave; begin without it")
        return int.from_bytes(plain[8:], "big")

    def _cipher(self) -> Cipher[modes.ECB]:
        return Cipher(algorithms.AES(self._derive("positions")[:BLOCK_BYTES]), modes.ECB())  # noqa: S305  # One block, never two.

    def _mark(self, home: str) -> bytes:
        return self._derive(f"home|{home}")[:8]

    def _derive(self, purpose: str) -> bytes:
        if not self._master:
            self._master = self._stored()
        return hmac.new(self._master, purpose.encode(), hashlib.sha256).digest()

    def _stored(self) -> bytes:
        record = self._store.load(KIND, KEY)
        if record is None:
            try:
                with self._store.transaction() as unit:
                    made = Record(KIND, KEY, base64.b64encode(self._entropy.token_bytes(MASTER_BYTES)))
                    unit.save(made, was=0)
            except Stale:
                pass  # Another process was quicker; its secret is ours.
            record = self._store.load(KIND, KEY)
        assert record is not None, "a master secret was stored just now"
        return base64.b64decode(record.state)
