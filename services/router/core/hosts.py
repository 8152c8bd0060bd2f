"""Which endpoint an address names: `<endpoint>.<domain>`, where the operator set a domain."""

from __future__ import annotations


def endpoint_of(host: str, domain: str) -> str:
    """The endpoint's name in a Host header below ``domain``; nothing if the host is another, or no domain is set."""
    if not domain:
        return ""
    name, dot, rest = host.lower().partition(".")
    return name if dot and rest.partition(":")[0] == domain else ""
