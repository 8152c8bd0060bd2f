"""Signing in as a person at an OpenID provider: authorization code and PKCE over a loopback redirect (RFC 8252)."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from libs.common.clock import SystemClock
from libs.common.errors import MillraceError
from libs.common.ids import Entropy, SystemEntropy
from libs.common.units import SECOND_MS

WELL_KNOWN: Final = "/.well-known/openid-configuration"
CALLBACK: Final = "/callback"
ANSWER_S: Final = 10.0
PERSON_S: Final = 300.0  # For a password and a second factor.
EARLY_MS: Final = 30_000  # A token that ends sooner than this is taken for ended: the call must still arrive.
PAGE: Final = b"<!doctype html><title>Millrace</title><p>You may close this page and go back to the command line."


class SignInFailed(MillraceError):
    """Nobody signed in, or nobody is signed in any more: sign in again."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person's token, until when it is good, and what to get the next one with."""

    token: str
    expires_at_ms: int
    refresh_token: str
    token_url: str
    client_id: str
    resource: str

    def is_over(self, now_ms: int) -> bool:
        """Whether the next token is needed."""
        return now_ms > self.expires_at_ms - EARLY_MS


def sign_in(
    issuer: str,
    client_id: str,
    *,
    resource: str,
    scope: str,
    show: Callable[[str], None],
    entropy: Entropy | None = None,
    patience_s: float = PERSON_S,
) -> Session:
    """The session of whoever signs in at the address that is shown. Raises SignInFailed."""
    entropy = entropy or SystemEntropy()
    found = _discovered(issuer)
    verifier, state = (_text(entropy.token_bytes(32)) for _ in range(2))
    with _Waiting() as waiting:
        here = f"http://127.0.0.1:{waiting.server_port}{CALLBACK}"
        asked = {
            "client_id": client_id,
            "response_type": "code",
            "redirect_uri": here,
            "scope": scope,
            "resource": resource,
            "state": state,
            "prompt": "consent",  # Without it no provider gives a refresh token.
            "code_challenge": _text(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        show(f"{found['authorization_endpoint']}?{urlencode(asked)}")
        code = waiting.code(state, patience_s)
    session = Session("", 0, "", str(found["token_endpoint"]), client_id, resource)
    return _tokens(
        session, {"grant_type": "authorization_code", "code": code, "redirect_uri": here, "code_verifier": verifier}
    )


def refreshed(session: Session) -> Session:
    """The session with its next token. Raises SignInFailed if the provider gives none."""
    if not session.refresh_token:
        raise SignInFailed("the sign-in is over, and the provider gave nothing to renew it with: sign in again")
    return _tokens(session, {"grant_type": "refresh_token", "refresh_token": session.refresh_token})


def _tokens(session: Session, grant: dict[str, str]) -> Session:
    now_ms = SystemClock().now_ms()
    body = {**grant, "client_id": session.client_id, "resource": session.resource}
    try:
        answer = httpx.post(session.token_url, data=body, timeout=ANSWER_S)
    except httpx.HTTPError as trouble:
        raise SignInFailed(f"{session.token_url} can't be asked ({type(trouble).__name__}): try again") from None
    said = _object(answer)
    if answer.is_error or not isinstance(said.get("access_token"), str):
        raise SignInFailed(f"the provider gave no token ({said.get('error', answer.status_code)}): sign in again")
    return replace(
        session,
        token=said["access_token"],
        expires_at_ms=now_ms + int(said.get("expires_in", 0)) * SECOND_MS,
        refresh_token=said.get("refresh_token") or session.refresh_token,
    )


def _discovered(issuer: str) -> dict[str, Any]:
    url = issuer.rstrip("/") + WELL_KNOWN
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise SignInFailed("an issuer is asked over https only")
    try:
        found = _object(httpx.get(url, timeout=ANSWER_S))
    except (httpx.HTTPError, httpx.InvalidURL) as trouble:
        raise SignInFailed(f"{url} can't be read ({type(trouble).__name__}): is that the issuer?") from None
    if found.get("issuer") != issuer or not {"authorization_endpoint", "token_endpoint"} <= set(found):
        raise SignInFailed(f"{url} does not describe that issuer")
    return found


class _Waiting(HTTPServer):
    """Waits on loopback for the browser to bring the code."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Callback)
        self.brought: dict[str, list[str]] = {}

    def code(self, state: str, patience_s: float) -> str:
        """The code of the sign-in that began with ``state``; what others bring is passed over."""
        deadline_s = time.monotonic() + patience_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self.timeout = left_s
            self.handle_request()
            if self.brought.get("state") == [state]:
                if "code" not in self.brought:
                    raise SignInFailed(f"the provider refused: {self.brought.get('error', ['no code'])[0]}")
                return self.brought["code"][0]
        raise SignInFailed(f"nobody signed in within {patience_s:.0f} s")


class _Callback(BaseHTTPRequestHandler):
    timeout = ANSWER_S  # Of one connection: who says nothing must not hold up the one that does.

    def do_GET(self) -> None:
        assert isinstance(self.server, _Waiting)
        parts = urlsplit(self.path)
        is_ours = parts.path == CALLBACK
        self.server.brought = parse_qs(parts.query) if is_ours else {}
        self.send_response(200 if is_ours else 404)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE if is_ours else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the code is in the path."""


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
