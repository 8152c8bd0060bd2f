"""A real OpenID provider (npm's `oidc-provider`) in a process of its own, and somebody with a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.ports import free_port

HERE: Final = Path(__file__).parent
API: Final = "https://api.millrace.test"
CALLBACK: Final = "http://127.0.0.1/callback"
STEPS_MAX: Final = 12  # Redirects and forms between a request to sign in and its code.
VERIFIER: Final = "a" * 64
CHALLENGE: Final = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def a_key_set(key_id: str) -> str:
    """A key set with one new key."""
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private))
    return json.dumps({"keys": [{**jwk, "kid": key_id, "use": "sig", "alg": "ES256"}]})


def browse(url: str, login: str) -> str:
    """Where somebody's browser is sent at last who signs in and agrees to everything."""
    with httpx.Client(follow_redirects=False) as browser:
        answer = browser.get(url)
        for _ in range(STEPS_MAX):
            if answer.is_redirect:
                place = urljoin(str(answer.url), answer.headers["location"])
                if urlsplit(place).path == "/callback":
                    return place
                answer = browser.get(place)
            else:
                prompt = "login" if 'name="login"' in answer.text else "consent"
                answer = browser.post(str(answer.url), data={"prompt": prompt, "login": login, "password": "any"})
    raise AssertionError(f"the sign-in never ended: {answer.status_code} {answer.text[:500]}")


@dataclass(slots=True)
class Provider:
    """The provider's process."""

    packages: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Its issuer."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, key_id: str) -> None:
        """Run it with a new key, and wait until it listens."""
        self.stop()
        command = ["node", str(HERE / "oidc/provider.mjs"), str(self.packages), str(self.port), a_key_set(key_id)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def signs_in(self, login: str, *, resource: str = API) -> str:
        """The access token of somebody who signs in with a browser: authorization code and PKCE."""
        asked = {
            "client_id": "cli", "response_type": "code", "redirect_uri": CALLBACK, "scope": "openid api",
            "resource": resource, "code_challenge": CHALLENGE, "code_challenge_method": "S256",
        }  # fmt: skip
        [code] = parse_qs(urlsplit(browse(f"{self.url}/auth?{urlencode(asked)}", login)).query)["code"]
        token = httpx.post(
            f"{self.url}/token",
            data={
                "grant_type": "authorization_code", "client_id": "cli", "code": code, "redirect_uri": CALLBACK,
                "code_verifier": VERIFIER, "resource": resource,
            },
        )  # fmt: skip
        assert token.status_code == 200, token.text
        return str(token.json()["access_token"])


class Browser:
    """Whoever is shown the address to sign in at, and does, while the command waits."""

    def __init__(self, login: str) -> None:
        self._login = login
        self._threads: list[threading.Thread] = []

    def show(self, url: str) -> None:
        """Sign in, and go where the provider says."""
        thread = threading.Thread(target=lambda: httpx.get(browse(url, self._login)))
        thread.start()
        self._threads.append(thread)

    def closes(self) -> None:
        """Every page was loaded."""
        for each in self._threads:
            each.join(timeout=60)
