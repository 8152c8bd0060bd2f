"""A key is good or it is not; what is wrong with it is nobody's business."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.events.tables import KeyEntry
from libs.common.ids import SystemEntropy
from libs.common.keys import FORM, Keyring, Minted, digest, key_id_of, mint


class Counting:
    """Entropy that a test can foresee."""

    def token_bytes(self, count: int) -> bytes:
        return hashlib.sha512(str(count).encode()).digest()[:count]


MINTED = mint(Counting())


def entry(minted: Minted = MINTED, *, expires_at_ms: int | None = None) -> KeyEntry:
    return KeyEntry(
        key_id=minted.key_id,
        sha256=minted.sha256,
        tenant_id="t-1",
        project_id="p-1",
        scopes=("inference",),
        expires_at_ms=expires_at_ms,
    )


def a_ring(*, expires_at_ms: int | None = None) -> Keyring:
    return Keyring({MINTED.key_id: entry(expires_at_ms=expires_at_ms)})


def test_a_minted_key_has_the_published_form() -> None:
    assert FORM.fullmatch(MINTED.plaintext)
    assert MINTED.plaintext.startswith(f"mr_live_{MINTED.key_id}_")
    assert mint(Counting(), live=False).plaintext.startswith("mr_test_")
    assert key_id_of(MINTED.plaintext) == MINTED.key_id
    assert MINTED.sha256 == digest(MINTED.plaintext)


def test_two_keys_are_never_the_same() -> None:
    minted = [mint(SystemEntropy()) for _ in range(50)]

    assert len({each.plaintext for each in minted}) == 50
    assert len({each.key_id for each in minted}) == 50


def test_a_key_shows_its_secret_only_when_asked() -> None:
    assert MINTED.plaintext not in f"{MINTED} {MINTED!r} {[MINTED]}"
    assert MINTED.sha256 not in repr(MINTED)


def test_a_good_key_is_known() -> None:
    assert a_ring().check(MINTED.plaintext, now_ms=0) == entry()


@given(st.integers(0, len(MINTED.plaintext) - 1), st.characters())
@example(len(MINTED.plaintext) - 1, "\ud800")
def test_a_key_with_any_other_character_is_unknown(place: int, character: str) -> None:
    wrong = MINTED.plaintext[:place] + character + MINTED.plaintext[place + 1 :]

    assert (a_ring().check(wrong, now_ms=0) is not None) is (wrong == MINTED.plaintext)


@given(st.text())
def test_junk_costs_no_look_up(text: str) -> None:
    assert key_id_of(text) is None
    assert a_ring().check(text, now_ms=0) is None


@pytest.mark.parametrize("changed", ["{} ", " {}", "{}\n", "{}x", "Bearer {}"])
def test_a_key_with_anything_around_it_is_unknown(changed: str) -> None:
    assert a_ring().check(changed.format(MINTED.plaintext), now_ms=0) is None


def test_a_well_formed_key_with_another_secret_is_unknown() -> None:
    other = mint(SystemEntropy())
    ring = Keyring({other.key_id: entry(MINTED)})

    assert key_id_of(other.plaintext) == other.key_id
    assert ring.check(other.plaintext, now_ms=0) is None


def test_a_key_ends_at_its_expiry() -> None:
    ring = a_ring(expires_at_ms=100)

    assert ring.check(MINTED.plaintext, now_ms=99) is not None
    assert ring.check(MINTED.plaintext, now_ms=100) is None


def test_a_key_can_be_revoked_and_revoked_again() -> None:
    ring = Keyring()
    ring.change(MINTED.key_id, entry())
    assert ring.check(MINTED.plaintext, now_ms=0) is not None

    ring.change(MINTED.key_id, None)
    ring.change(MINTED.key_id, None)

    assert ring.check(MINTED.plaintext, now_ms=0) is None
