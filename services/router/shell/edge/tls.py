"""TLS as the router ends it, where no load balancer does."""

from __future__ import annotations

import ssl

from libs.common.errors import Rejected
from services.router.shell.settings import RouterSettings


def tls_of(settings: RouterSettings) -> ssl.SSLContext | None:
    """What clients are spoken to with, if TLS ends here. Raises Rejected for what can't be served so."""
    if settings.proxy_protocol and not settings.trusted_proxies:
        raise Rejected("MILLRACE_PROXY_PROTOCOL needs MILLRACE_TRUSTED_PROXIES: who else may say who a client is?")
    if not settings.tls_cert_file:
        return None
    if settings.proxy_protocol:
        raise Rejected("TLS ends at the load balancer that speaks the PROXY protocol: unset MILLRACE_TLS_CERT_FILE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file or None)
    except OSError as wrong:
        raise Rejected(f"can not use MILLRACE_TLS_CERT_FILE {settings.tls_cert_file}: {wrong}") from wrong
    return context
