"""Looking at an endpoint as its clients do: over the public address, by name, with a key and without."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Final
from urllib.parse import quote, urlsplit

from libs.common.clock import Clock
from libs.common.errors import Invalid
from libs.common.events.tables import RouteEntry
from libs.common.ids import SystemEntropy
from services.router.core.outside import Obstacle, Sight
from services.router.core.probing import probing_key
from services.router.shell.settings import RouterSettings
from services.router.shell.workers.secret import kept_secret

ANSWER_BYTES_MAX: Final = 64 * 1024  # Of an answer that is not looked at; the status is all that counts.


class FromOutside:
    """Two requests over connections of their own, so that each may meet another router, or another worker."""

    def __init__(self, base_url: str, *, secret: bytes, clock: Clock, timeout_s: float, ca_file: str = "") -> None:
        self._base = urlsplit(base_url)
        self._secret = secret
        self._clock = clock
        self._timeout_s = timeout_s
        self._trusted = _trusted(ca_file) if self._base.scheme == "https" else None

    def look(self, entry: RouteEntry) -> Sight:
        """What a stranger and a friend are answered now. Raises nothing: what stood in the way is what was seen."""
        path = f"{self._base.path.rstrip('/')}/models/{quote(entry.name, safe='')}"
        url = f"{self._base.scheme}://{self._base.netloc}{path}"
        try:
            without_key = self._ask(path, {})
            key = probing_key(self._secret, entry, now_ms=self._clock.now_ms())
            with_key = self._ask(path, {"authorization": f"Bearer {key}"})
        except ssl.SSLError as wrong:  # Also an OSError: it must come first, as must the next.
            return Sight(url, Obstacle.CERTIFICATE, _said(wrong))
        except socket.gaierror as wrong:
            return Sight(url, Obstacle.NAME, _said(wrong))
        except (OSError, http.client.HTTPException) as wrong:
            return Sight(url, Obstacle.WAY, _said(wrong))
        return Sight(url, without_key=without_key, with_key=with_key)

    def _ask(self, path: str, headers: dict[str, str]) -> int:
        connection = self._connection()
        try:
            connection.request("GET", path, headers={**headers, "connection": "close"})
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES_MAX)
            return answer.status
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host = self._base.hostname or ""
        if self._trusted is None:
            return http.client.HTTPConnection(host, self._base.port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(host, self._base.port, timeout=self._timeout_s, context=self._trusted)


def from_outside(settings: RouterSettings, clock: Clock) -> FromOutside:
    """As the settings say."""
    return FromOutside(
        settings.probe_url or settings.public_url,
        secret=kept_secret(settings.salt_path, SystemEntropy()),
        clock=clock,
        timeout_s=settings.probe_timeout_s,
        ca_file=settings.probe_ca_file,
    )


def _trusted(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as wrong:
        raise Invalid(f"MILLRACE_PROBE_CA_FILE={ca_file} can't be read as certificates: {wrong}") from wrong


def _said(wrong: Exception) -> str:
    """Short, and without what changes from try to try."""
    if isinstance(wrong, ssl.SSLCertVerificationError):
        return wrong.verify_message
    return (wrong.strerror if isinstance(wrong, OSError) else None) or str(wrong) or type(wrong).__name__
