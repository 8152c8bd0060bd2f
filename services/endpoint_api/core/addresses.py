"""Which receivers a webhook may have: https to names, and only to addresses of the public internet."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from services.endpoint_api.core.refusal import FieldRefused

URL_MAX: Final = 2048
HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# Public by their number, yet answered by the cloud that we run in: Azure's wire server.
METADATA: Final = frozenset({ipaddress.ip_address("168.63.129.16")})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: `path` with its query."""

    host: str
    port: int
    path: str
    is_tls: bool

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (HTTPS_PORT if self.is_tls else HTTP_PORT) else f"{host}:{self.port}"


def target_of(url: str, *, allow_local: bool = False) -> Target:
    """The parts of a URL. Raises FieldRefused if it is none that we would send to; its address is checked later."""
    if len(url) > URL_MAX or not url.isascii() or any(each <= " " or each in '\\"<>^`{|}\x7f' for each in url):
        raise FieldRefused("url", f"must be a URL of at most {URL_MAX} printable ASCII characters")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise FieldRefused("url", "is not a URL") from None
    if parts.scheme != "https" and not (allow_local and parts.scheme == "http"):
        raise FieldRefused("url", "must begin with https://")
    if not host or port == 0 or "%" in host:
        raise FieldRefused("url", "must name a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise FieldRefused("url", "must carry no user, password or fragment")
    is_tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(host, port or (HTTPS_PORT if is_tls else HTTP_PORT), path, is_tls)
    literal = _literal(host)
    if literal is not None and not may_reach(literal, allow_local=allow_local):
        raise FieldRefused("url", "must be on the public internet")
    return target


def may_reach(address: Address, *, allow_local: bool = False) -> bool:
    """Whether a webhook may be sent to an address: a public one, or our own machine where that is allowed."""
    plain = _unwrapped(address)
    if allow_local and plain.is_loopback:
        return True
    return plain.is_global and not plain.is_multicast and not plain.is_reserved and plain not in METADATA


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address only carries, so that no wrapping hides one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address
