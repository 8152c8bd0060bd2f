"""AWS Signature Version 4 for a GET without a body, as S3 and everything compatible with it ask for."""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EMPTY: Final = hashlib.sha256(b"").hexdigest()
ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "s3"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs; `session_token` only of those that end by themselves."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""


def signed(  # What a signature covers.
    *, host: str, path: str, headers: Mapping[str, str], credentials: Credentials, region: str, at: str
) -> dict[str, str]:
    """``headers`` and those that prove who asks. ``path`` is as sent, ``at`` like `20130524T000000Z`."""
    all_headers = {
        **{name.lower(): value for name, value in headers.items()},
        "host": host,
        "x-amz-date": at,
        "x-amz-content-sha256": EMPTY,
    }
    if credentials.session_token:
        all_headers["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(all_headers))
    lines = "".join(f"{name}:{all_headers[name].strip()}\n" for name in sorted(all_headers))
    request = f"GET\n{path}\n\n{lines}\n{names}\n{EMPTY}"
    scope = f"{at[:8]}/{region}/{SERVICE}/aws4_request"
    to_sign = f"{ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = _hmac(_key(credentials.secret_access_key, at[:8], region), to_sign).hex()
    proof = f"{ALGORITHM} Credential={credentials.access_key_id}/{scope},SignedHeaders={names},Signature={signature}"
    return {**{name: value for name, value in all_headers.items() if name != "host"}, "authorization": proof}


def quoted(path: str) -> str:
    """A path as S3 writes it: everything but unreserved characters and slashes in percent."""
    return urllib.parse.quote(path, safe="/-_.~")


def _key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, SERVICE, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
