"""The snapshot of keys says what the records say, with a version that rises with each change, whatever the bus does."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.errors import Invalid, Unavailable
from libs.common.key_snapshot import OVER_KEPT_MS, KeySnapshot, opened
from libs.common.signing import Ed25519Checker, Ed25519Signer, new_signing_key
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.shell.key_snapshots import FRESH_MS, ISSUE_MS, KeySnapshots, signer_of
from tests.unit.endpoint_api.given import Stand, a_caller

SIGNER = Ed25519Signer(new_signing_key())
CHECKER = Ed25519Checker(SIGNER.public_pem())


class Shown:
    """A service with keys, and what it shows of them."""

    def __init__(self, *, epoch: int = 0) -> None:
        self.stand = Stand()
        self.stand.api.tenants.adopt("acme", "main")
        self.snapshots = KeySnapshots(self.stand.keys, self.stand.clock, SIGNER, epoch=epoch)

    def key(self, name: str) -> str:
        """A new key's id."""
        return self.stand.api.keys.create(Ask(a_caller()), name=name, scopes=["inference"]).key.id

    def now(self) -> KeySnapshot:
        """The snapshot as it is after a look at the records."""
        self.snapshots.refresh()
        return opened(self.snapshots.page(), CHECKER)


def test_a_revoked_key_is_named_as_over_and_every_change_raises_the_version() -> None:
    shown = Shown(epoch=3)
    live, revoked, rotated = shown.key("a"), shown.key("b"), shown.key("c")
    before = shown.now()

    shown.stand.api.keys.revoke(Ask(a_caller()), revoked)
    after_revocation = shown.now()
    shown.stand.api.keys.rotate(Ask(a_caller()), rotated, overlap_s=0)
    after_rotation = shown.now()

    assert ({each.key_id for each in before.keys}, before.over) == ({live, revoked, rotated}, ())
    assert after_revocation.over == (revoked,)
    assert {each.key_id for each in after_revocation.keys} == {live, rotated}
    assert set(after_rotation.over) == {revoked, rotated}
    assert before.mark < after_revocation.mark < after_rotation.mark
    assert before.mark[0] == 3


def test_what_routers_need_not_know_of_a_key_changes_nothing() -> None:
    shown = Shown()
    used = shown.key("a")
    before = shown.now()

    shown.stand.ports.key_use.note(used, shown.stand.clock.now_ms())
    shown.snapshots.refresh()

    assert opened(shown.snapshots.page(), CHECKER) == before


def test_a_key_is_named_as_over_for_as_long_as_anybody_may_still_hold_it() -> None:
    shown = Shown()
    revoked = shown.key("a")
    shown.stand.api.keys.revoke(Ask(a_caller()), revoked)

    shown.stand.clock.advance(OVER_KEPT_MS)
    kept = shown.now().over
    shown.stand.clock.advance(ISSUE_MS)

    assert (kept, shown.now().over) == ((revoked,), ())


def test_an_unchanged_snapshot_is_issued_anew_each_minute_so_that_no_old_one_passes_for_it() -> None:
    shown = Shown()
    first = shown.now()
    shown.stand.clock.advance(ISSUE_MS - 1)
    same = shown.now()
    shown.stand.clock.advance(1)
    anew = shown.now()

    assert same == first
    assert (anew.mark, anew.issued_at_ms) == (first.mark, first.issued_at_ms + ISSUE_MS)


def test_nothing_is_shown_before_the_records_were_seen_or_long_after() -> None:
    shown = Shown()
    with pytest.raises(Unavailable):
        shown.snapshots.page()
    shown.now()
    shown.stand.clock.advance(FRESH_MS + 1)

    with pytest.raises(Unavailable):
        shown.snapshots.page()


def test_a_signing_file_that_is_missing_or_another_thing_is_refused_in_one_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(SIGNER.public_pem())

    with pytest.raises(Invalid, match="openssl genpkey"):
        signer_of(tmp_path / "none.pem")
    with pytest.raises(Invalid, match="PEM private key"):
        signer_of(wrong)
