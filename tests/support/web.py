"""Asking a server of our own whether it is there yet, many times a second."""

from __future__ import annotations

import ssl
from typing import Final

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # Else httpx reads all certificates for each client: 40 ms.
