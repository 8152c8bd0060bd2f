"""Looking at an endpoint as its clients do: over the public address, by name, with a key and without."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, urlsplit

from libs.common.clock import Clock
from libs.common.errors import Invalid
from libs.common.events.tables import RouteEntry
from libs.common.ids import SystemEntropy
from services.router.core import hosts
from services.router.core.outside import Obstacle, Sight
from services.router.core.probing import probing_key
from services.router.shell.settings import RouterSettings
from services.router.shell.workers.secret import kept_secret

Resolve = Callable[[str], str]
ANSWER_BYTES_MAX: Final = 64 * 1024  # Of an answer that is not looked at; the status is all that counts.


def resolved(host: str) -> str:
    """The name itself, of which there are addresses. Raises socket.gaierror."""
    socket.getaddrinfo(host, None)
    return host


class FromOutside:
    """Two requests over connections of their own, so that each may meet another router, or another worker.

    ``is_door``: names have to resolve, but what they lead to is met at ``base_url``. ``resolve`` says where they lead.
    """

    def __init__(
        self,
        base_url: str,
        *,
        secret: bytes,
        clock: Clock,
        timeout_s: float,
        ca_file: str = "",
        is_door: bool = False,
        resolve: Resolve = resolved,
    ) -> None:
        self._base = urlsplit(base_url)
        self._secret = secret
        self._clock = clock
        self._timeout_s = timeout_s
        self._is_door = is_door
        self._resolve = resolve
        self._trusted = _trusted(ca_file) if self._base.scheme == "https" else None

    def look(self, entry: RouteEntry) -> Sight:
        """What a stranger and a friend are answered now. Raises nothing: what stood in the way is what was seen."""
        path = f"{self._base.path.rstrip('/')}/models/{quote(entry.name, safe='')}"
        host = entry.hostname or self._base.hostname or ""
        url = hosts.url_at(f"{self._base.scheme}://{self._base.netloc}{path}", entry.hostname)
        try:
            without_key = self._ask(host, path, {})
            key = probing_key(self._secret, entry, now_ms=self._clock.now_ms())
            with_key = self._ask(host, path, {"authorization": f"Bearer {key}"})
        except ssl.SSLError as wrong:  # Also an OSError: it must come first, as must the next.
            return Sight(url, Obstacle.CERTIFICATE, _said(wrong))
        except socket.gaierror as wrong:
            return Sight(url, Obstacle.NAME, _said(wrong))
        except (OSError, http.client.HTTPException) as wrong:
            return Sight(url, Obstacle.WAY, _said(wrong))
        return Sight(url, without_key=without_key, with_key=with_key)

    def _ask(self, host: str, path: str, headers: dict[str, str]) -> int:
        connection = self._connection(host)
        try:
            connection.request("GET", path, headers={**headers, "connection": "close"})
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES_MAX)
            return answer.status
        finally:
            connection.close()

    def _connection(self, host: str) -> http.client.HTTPConnection:
        """One that is made already: to where the name leads, or to the door where names do not lead back to us."""
        port = self._base.port or (http.client.HTTPS_PORT if self._trusted else http.client.HTTP_PORT)
        place = self._resolve(host)
        way = socket.create_connection((self._base.hostname if self._is_door else place, port), self._timeout_s)
        connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        try:
            connection.sock = self._trusted.wrap_socket(way, server_hostname=host) if self._trusted else way
        except OSError:
            way.close()
            raise
        return connection


def from_outside(settings: RouterSettings, clock: Clock) -> FromOutside:
    """As the settings say."""
    return FromOutside(
        settings.probe_url or settings.public_url,
        secret=kept_secret(settings.salt_path, SystemEntropy()),
        clock=clock,
        timeout_s=settings.probe_timeout_s,
        ca_file=settings.probe_ca_file,
        is_door=bool(settings.probe_url),
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
