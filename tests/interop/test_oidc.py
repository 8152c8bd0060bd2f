"""People sign in at a real OpenID provider (npm's `oidc-provider`) and use the API with what it gave them."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from libs.common.clock import SystemClock
from libs.common.events.tenant import NO_LIMITS
from libs.common.units import HOUR_S, SECOND_MS
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.identity import Issuer, as_operator
from services.endpoint_api.core.members import MemberKind
from services.endpoint_api.core.roles import Role
from services.endpoint_api.shell.oidc import REFETCH_MS, Oidc
from tests.support.nats import free_port
from tests.support.npm import installed
from tests.unit.endpoint_api.given import BODY, Stand

pytestmark = pytest.mark.interop

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
        with httpx.Client(follow_redirects=False) as browser:
            answer = browser.get(f"{self.url}/auth", params=asked)
            for _ in range(STEPS_MAX):
                if answer.is_redirect:
                    place = urljoin(str(answer.url), answer.headers["location"])
                    if place.startswith(CALLBACK):
                        break
                    answer = browser.get(place)
                else:
                    prompt = "login" if 'name="login"' in answer.text else "consent"
                    form = {"prompt": prompt, "login": login, "password": "any"}
                    answer = browser.post(str(answer.url), data=form)
            [code] = parse_qs(urlsplit(place).query)["code"]
            token = browser.post(
                f"{self.url}/token",
                data={
                    "grant_type": "authorization_code", "client_id": "cli", "code": code, "redirect_uri": CALLBACK,
                    "code_verifier": VERIFIER, "resource": resource,
                },
            )  # fmt: skip
        assert token.status_code == 200, token.text
        return str(token.json()["access_token"])


@dataclass(slots=True)
class ShiftedClock:
    """The machine's clock and some more."""

    ahead_ms: int = 0

    def now_ms(self) -> int:
        """Epoch milliseconds."""
        return SystemClock().now_ms() + self.ahead_ms


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The provider's packages."""
    return installed(HERE / "oidc", tmp_path_factory.mktemp("oidc"))


@pytest.fixture
def provider(packages: Path) -> Iterator[Provider]:
    """A provider that runs."""
    running = Provider(packages)
    running.start("first")
    yield running
    running.stop()


@dataclass(slots=True)
class Door:
    """Our API, with a tenant in which ada may everything and bob may look."""

    clock: ShiftedClock
    stand: Stand

    def ask(self, method: str, path: str, token: str, body: Any = None) -> Any:
        """Ask as the bearer of a token."""
        return self.stand.client.request(method, path, json=body, headers={"authorization": f"Bearer {token}"})


@pytest.fixture
def door(provider: Provider) -> Door:
    """The API that believes the provider."""
    clock = ShiftedClock()
    issuer = Issuer("corp", provider.url, (API,), operator_claim="groups", operator_values=("operators",))
    stand = Stand(people=Oidc((issuer,), clock))
    root = as_operator("root", "", None)
    made = Ask(root, "make")
    stand.api.tenants.create(made, "acme", display_name="Acme", tiers=[], quota=NO_LIMITS, projects=["main"])
    acting = as_operator("root", "acme", stand.tenancy.tenant("acme"))
    for subject, role in (("ada@acme.test", Role.OWNER), ("corp:bob", Role.VIEWER)):
        stand.api.members.put(Ask(acting, subject), kind=MemberKind.PERSON, subject=subject, role=role, project_id="")
    return Door(clock, stand)


def test_a_person_signs_in_and_makes_an_endpoint(provider: Provider, door: Door) -> None:
    token = provider.signs_in("ada")

    made = door.ask("POST", "/v1/endpoints", token, BODY)
    found = door.ask("GET", "/v1/endpoints", token).json()["items"]

    assert made.status_code == 202, made.text
    assert [each["name"] for each in found] == ["chat"]
    assert "user:corp:ada" in {each.deed.actor for each in door.stand.store.deeds()}


def test_a_member_may_what_the_role_says(provider: Provider, door: Door) -> None:
    token = provider.signs_in("bob")

    assert door.ask("GET", "/v1/endpoints", token).status_code == 200
    assert door.ask("POST", "/v1/endpoints", token, BODY).json()["code"] == "missing_scope"
    assert door.ask("GET", "/v1/tenants", token).status_code == 403


@pytest.mark.parametrize("login", ["eve", "unverified"])
def test_who_is_no_member_is_refused(provider: Provider, door: Door, login: str) -> None:
    answer = door.ask("GET", "/v1/endpoints", provider.signs_in(login))

    assert (answer.status_code, answer.json()["code"]) == (403, "not_a_member")


def test_an_operator_is_known_by_the_claim(provider: Provider, door: Door) -> None:
    tenants = door.ask("GET", "/v1/tenants", provider.signs_in("root"))

    assert [each["id"] for each in tenants.json()["items"]] == ["acme"]


def test_a_token_for_another_audience_is_refused(provider: Provider, door: Door) -> None:
    answer = door.ask("GET", "/v1/endpoints", provider.signs_in("ada", resource="https://elsewhere.test"))

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_a_token_is_refused_once_it_is_over(provider: Provider, door: Door) -> None:
    token = provider.signs_in("ada")
    assert door.ask("GET", "/v1/endpoints", token).status_code == 200

    door.clock.ahead_ms = 361 * SECOND_MS  # Five minutes, and one for clocks that differ.

    assert door.ask("GET", "/v1/endpoints", token).status_code == 401


def test_a_rotation_of_the_providers_keys_is_survived(provider: Provider, door: Door) -> None:
    before = provider.signs_in("ada")
    assert door.ask("GET", "/v1/endpoints", before).status_code == 200

    provider.start("second")
    after = provider.signs_in("ada")
    too_soon = door.ask("GET", "/v1/endpoints", after).status_code
    door.clock.ahead_ms = REFETCH_MS

    assert too_soon == 401
    assert door.ask("GET", "/v1/endpoints", after).status_code == 200
    assert door.ask("GET", "/v1/endpoints", before).status_code == 401


def test_while_the_provider_is_away_known_keys_hold_for_an_hour_and_then_nobody_comes_in(
    provider: Provider, door: Door
) -> None:
    token = provider.signs_in("ada")
    assert door.ask("GET", "/v1/endpoints", token).status_code == 200

    provider.stop()
    in_time = door.ask("GET", "/v1/endpoints", token).status_code
    door.clock.ahead_ms = HOUR_S * SECOND_MS
    late = door.ask("GET", "/v1/endpoints", token)

    assert in_time == 200
    assert (late.status_code, late.headers["retry-after"]) == (503, "10")
