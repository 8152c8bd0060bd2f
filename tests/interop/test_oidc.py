"""People sign in at a real OpenID provider (npm's `oidc-provider`) and use the API with what it gave them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from libs.cli.credentials import CONFIG, PROFILE, Credentials, save
from libs.cli.profile import Home
from libs.client.signin import SignInFailed, refreshed, sign_in
from libs.common.clock import SystemClock
from libs.common.events.tenant import NO_LIMITS
from libs.common.units import HOUR_S, SECOND_MS
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.identity import Issuer, as_operator
from services.endpoint_api.core.members import MemberKind
from services.endpoint_api.core.roles import Role
from services.endpoint_api.shell.oidc import REFETCH_MS, Oidc
from tests.interop.provider import API, HERE, Browser, Provider
from tests.support.npm import installed
from tests.unit.endpoint_api.given import BODY, Stand

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("oidc")]


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


def test_the_command_signs_a_person_in_keeps_that_private_and_renews_it(
    provider: Provider, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG, str(tmp_path / "profiles.json"))
    monkeypatch.setenv(PROFILE, "corp")
    browser = Browser("ada")

    session = sign_in(provider.url, "cli", resource=API, scope="openid offline_access api", show=browser.show)
    browser.closes()
    save({"corp": Credentials(API).of(session)})
    first = Credentials.read(Home(tmp_path))
    save({"corp": Credentials(API).of(replace(session, expires_at_ms=0))})
    second, third = (Credentials.read(Home(tmp_path)) for _ in range(2))

    assert door.ask("GET", "/v1/endpoints", first.key).status_code == 200
    assert first.key == session.token
    assert second.key != first.key
    assert second == third  # Kept: asked for once.
    assert door.ask("GET", "/v1/endpoints", second.key).status_code == 200
    assert (tmp_path / "profiles.json").stat().st_mode & 0o777 == 0o600


def test_a_sign_in_that_the_provider_ended_says_to_sign_in_again(provider: Provider) -> None:
    browser = Browser("ada")
    session = sign_in(provider.url, "cli", resource=API, scope="openid offline_access api", show=browser.show)
    browser.closes()

    provider.start("second")  # Its grants were in memory.

    with pytest.raises(SignInFailed, match="sign in again"):
        refreshed(session)


def test_an_answer_that_we_did_not_ask_for_signs_nobody_in(provider: Provider) -> None:
    def forge(url: str) -> None:
        [here] = parse_qs(urlsplit(url).query)["redirect_uri"]
        threading.Thread(target=lambda: httpx.get(here, params={"code": "stolen", "state": "another"})).start()

    with pytest.raises(SignInFailed, match="nobody signed in"):
        sign_in(provider.url, "cli", resource=API, scope="openid", show=forge, patience_s=1.0)
