"""Which endpoint an address names: `<endpoint>.<domain>` of the operator's, or a host name of a tenant's own."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def endpoint_of(host: str, domain: str) -> str:
    """The endpoint's name in a Host header below ``domain``; nothing if the host is another, or no domain is set."""
    if not domain:
        return ""
    name, dot, rest = host.lower().partition(".")
    return name if dot and rest.partition(":")[0] == domain else ""


def name_in(host: str) -> str:
    """The host name in a Host header, without the port."""
    return host.lower().partition(":")[0]


def url_at(url: str, hostname: str) -> str:
    """The public URL under a tenant's host name: the same scheme, port and path; as it is without one."""
    if not hostname:
        return url
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{hostname}{port}"))
