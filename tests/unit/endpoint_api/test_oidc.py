"""Sign-in fails closed: a token that is not exactly what it must be gets nobody in, and an issuer is not flooded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from libs.common.clock import ManualClock
from libs.common.errors import Invalid, Unavailable
from libs.common.units import HOUR_S, SECOND_MS
from services.endpoint_api.core.identity import Identity, Issuer, identity_of
from services.endpoint_api.core.refusal import Unauthorized
from services.endpoint_api.shell.issuers import read_issuers
from services.endpoint_api.shell.oidc import REFETCH_MS, Oidc, fetch_document
from tests.unit.endpoint_api.given import NOW

URL: Final = "https://id.acme.test"
ISSUER: Final = Issuer("corp", URL, ("api",), operator_claim="groups", operator_values=("ops",))
NOW_S: Final = NOW // 1000
CLAIMS: Final[dict[str, Any]] = {"iss": URL, "aud": "api", "sub": "ada", "exp": NOW_S + 60}
ES256: Final = ec.generate_private_key(ec.SECP256R1())
OTHER: Final = ec.generate_private_key(ec.SECP256R1())
ED25519: Final = ed25519.Ed25519PrivateKey.generate()


def public(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, key_id: str) -> dict[str, Any]:
    """The public half, as an issuer publishes it."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    else:
        jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
    return {**jwk, "kid": key_id, "use": "sig"}


@dataclass(slots=True)
class Web:
    """What an issuer publishes, and how often it was asked."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [public(ES256, "k1"), public(ED25519, "k2")])
    issuer: str = URL
    down: bool = False
    asked: int = 0

    def fetch(self, url: str) -> bytes:
        """The document at ``url``."""
        self.asked += 1
        if self.down:
            raise ValueError("down")
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps({"issuer": self.issuer, "jwks_uri": f"{URL}/keys"}).encode()
        return json.dumps({"keys": self.keys}).encode()


@dataclass(slots=True)
class Desk:
    """Sign-in as it runs, with an issuer of our own."""

    web: Web = field(default_factory=Web)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    oidc: Oidc = field(init=False)

    def __post_init__(self) -> None:
        """Join them."""
        self.oidc = Oidc((ISSUER,), self.clock, self.web.fetch)


def a_token(*, key: Any = ES256, alg: str = "ES256", kid: str = "k1", header: Any = None, **changes: Any) -> str:
    """A token; a claim that is None is left out."""
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.encode(claims, key, algorithm=alg, headers={"kid": kid, **(header or {})})


@pytest.mark.parametrize(("key", "alg", "kid"), [(ES256, "ES256", "k1"), (ED25519, "EdDSA", "k2")])
def test_a_good_token_says_who_signed_in(key: Any, alg: str, kid: str) -> None:
    token = a_token(key=key, alg=alg, kid=kid, email="Ada@Acme.test", email_verified=True)

    assert Desk().oidc.identity(token) == Identity(("corp:ada", "ada@acme.test"))


PEM: Final = ES256.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)

BAD: Final[dict[str, Callable[[], str]]] = {
    "nothing": lambda: "",
    "no token": lambda: "a.b.c",
    "a token that is no JSON": lambda: "bm8.bm8.bm8",
    "too long": lambda: a_token(pad="x" * 9000),
    "of another issuer": lambda: a_token(iss="https://evil.test"),
    "of no issuer": lambda: a_token(iss=None),
    "an issuer that is no text": lambda: jwt.encode({**CLAIMS, "aud": ["api"]}, ES256, "ES256", {"kid": "k2"}),
    "for another audience": lambda: a_token(aud="other"),
    "for no audience": lambda: a_token(aud=None),
    "for nobody": lambda: a_token(sub=None),
    "for somebody with a space": lambda: a_token(sub="a b"),
    "without an end": lambda: a_token(exp=None),
    "over": lambda: a_token(exp=NOW_S - 61),
    "not yet": lambda: a_token(nbf=NOW_S + 61),
    "with an end that is no number": lambda: a_token(exp="soon"),
    "signed by another": lambda: a_token(key=OTHER),
    "with a key that is not there": lambda: a_token(kid="k9"),
    "with another key's id": lambda: a_token(kid="k2"),
    "unsigned": lambda: jwt.encode(CLAIMS, "", "none", {"kid": "k1"}),
    "signed with the public key as a secret": lambda: jwt.encode(CLAIMS, PEM * 2, "HS256", {"kid": "k1"}),
    "with an extension that must be understood": lambda: a_token(header={"crit": ["b64"], "b64": True}),
}


@pytest.mark.parametrize("what", BAD)
def test_a_token_that_is_not_good_gets_nobody_in(what: str) -> None:
    with pytest.raises(Unauthorized):
        Desk().oidc.identity(BAD[what]())


def test_clocks_may_differ_by_a_minute() -> None:
    desk = Desk()

    assert desk.oidc.identity(a_token(exp=NOW_S - 59, nbf=NOW_S + 59)).names == ("corp:ada",)


def test_a_changed_byte_is_noticed() -> None:
    head, body, signature = a_token().split(".")
    spoiled = ("B" if body[20] == "A" else "A").join((body[:20], body[21:]))

    with pytest.raises(Unauthorized):
        Desk().oidc.identity(f"{head}.{spoiled}.{signature}")


def test_made_up_key_ids_do_not_flood_the_issuer() -> None:
    desk = Desk()
    desk.oidc.identity(a_token())

    for number in range(50):
        with pytest.raises(Unauthorized):
            desk.oidc.identity(a_token(kid=f"made-up-{number}"))
        desk.clock.advance(1)

    assert desk.web.asked == 2
    desk.clock.advance(REFETCH_MS)
    assert desk.oidc.identity(a_token()).names == ("corp:ada",)


def test_a_rotation_is_survived_and_a_withdrawn_key_forgotten() -> None:
    desk = Desk()
    desk.oidc.identity(a_token())
    desk.web.keys = [public(OTHER, "k3")]
    desk.clock.advance(REFETCH_MS)

    assert desk.oidc.identity(a_token(key=OTHER, kid="k3")).names == ("corp:ada",)
    with pytest.raises(Unauthorized):
        desk.oidc.identity(a_token())


def test_without_keys_nobody_comes_in_and_later_somebody_does() -> None:
    desk = Desk(Web(down=True))
    with pytest.raises(Unavailable):
        desk.oidc.identity(a_token())

    desk.web.down = False
    desk.clock.advance(REFETCH_MS)

    assert desk.oidc.identity(a_token()).names == ("corp:ada",)


def test_old_keys_hold_for_an_hour_without_the_issuer() -> None:
    desk = Desk()
    desk.oidc.identity(a_token(exp=NOW_S + 9999))
    desk.web.down = True

    desk.clock.advance(HOUR_S * SECOND_MS - 1)
    assert desk.oidc.identity(a_token(exp=NOW_S + 9999)).names == ("corp:ada",)
    desk.clock.advance(1)
    with pytest.raises(Unavailable):
        desk.oidc.identity(a_token(exp=NOW_S + 9999))


@pytest.mark.parametrize(
    "keys",
    [[], [{"kid": "k1", "kty": "oct", "k": "c2VjcmV0"}], [{"kid": "k1", "kty": "EC"}], [{}] * 65, [7, "x"]],
    ids=["none", "a shared secret", "half a key", "too many", "no keys"],
)
def test_a_key_set_that_can_not_be_used_lets_nobody_in(keys: list[Any]) -> None:
    with pytest.raises((Unauthorized, Unavailable)):
        Desk(Web(keys=keys)).oidc.identity(a_token())


def test_a_key_that_is_for_something_else_signs_nothing() -> None:
    with pytest.raises(Unauthorized):
        Desk(Web(keys=[{**public(ES256, "k1"), "use": "enc"}])).oidc.identity(a_token())


def test_a_discovery_document_of_another_issuer_is_not_believed() -> None:
    with pytest.raises(Unavailable):
        Desk(Web(issuer="https://evil.test")).oidc.identity(a_token())


@pytest.mark.parametrize("url", ["http://id.acme.test/x", "file:///etc/passwd", "", "ftp://127.0.0.1/x"])
def test_an_issuer_is_asked_over_https_only(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        fetch_document(url)


@pytest.mark.parametrize(
    ("claims", "names", "is_operator"),
    [
        ({"sub": "a", "email": "a@b.test"}, ("corp:a",), False),
        ({"sub": "a", "email": "a@b.test", "email_verified": "true"}, ("corp:a",), False),
        ({"sub": "a", "email": "corp:root", "email_verified": True}, ("corp:a",), False),
        ({"sub": "a", "email": "corp:b@b.test", "email_verified": True}, ("corp:a",), False),
        ({"sub": "a", "groups": ["people", "ops"]}, ("corp:a",), True),
        ({"sub": "a", "groups": "ops"}, ("corp:a",), True),
        ({"sub": "a", "groups": "opsimist"}, ("corp:a",), False),
        ({"sub": "a", "groups": [["ops"], {"ops": 1}]}, ("corp:a",), False),
        ({"sub": "a", "groups": {"ops": True}}, ("corp:a",), False),
    ],
)
def test_what_of_a_tokens_claims_counts(claims: dict[str, Any], names: tuple[str, ...], is_operator: bool) -> None:
    assert identity_of(ISSUER, claims) == Identity(names, is_operator)


GOOD: Final = "version: 1\nissuers:\n  - {name: corp, issuer: 'https://id.acme.test', audiences: [api]}\n"


def test_issuers_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "oidc.yaml"
    path.write_text(GOOD)

    assert read_issuers(path) == (Issuer("corp", URL, ("api",)),)
    assert read_issuers(None) == ()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", GOOD.replace("[api]", "[]"), GOOD.replace("corp", "Corp Inc"), GOOD.replace("https", "ftp"),
        GOOD.replace("audiences", "audience"), GOOD + GOOD.splitlines()[-1],
        GOOD.replace("[api]", "[api], algorithms: [HS256]"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_issuers_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "oidc.yaml"
    path.write_text(text)

    with pytest.raises(Invalid, match="issuers") as refusal:
        read_issuers(path)

    assert "\n" not in str(refusal.value)
