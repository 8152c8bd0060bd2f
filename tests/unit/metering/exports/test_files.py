"""Signed files: nothing in them can be changed, put in or taken out unseen, and a crash never writes a row twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from libs.common.errors import Invalid
from libs.common.events.usage import Meter, UsagePart
from libs.common.signing import Ed25519Checker, HmacSecret, signer_from
from libs.common.units import SECOND_MS
from services.metering.core.exports.state import Intent
from services.metering.shell.exporters.files import SignedFiles, Tampered, verified
from services.metering.shell.exporters.reply import Result
from tests.unit.metering.exports.books import Books, receiver_of
from tests.unit.metering.world import T0, Crash

SECRET = HmacSecret(b"x" * 32)


class Dying:
    """A way to files on which the process dies once, when they are written."""

    def __init__(self, files: SignedFiles) -> None:
        self.files = files
        self.dies = True

    def send(self, intents: Sequence[Intent]) -> Sequence[Result]:
        """Write, and die."""
        results = self.files.send(intents)
        if self.dies:
            self.dies = False
            raise Crash
        return results

    def shown(self, intent: Intent) -> object:
        """The row."""
        return self.files.shown(intent)


def written(directory: Path) -> Books:
    """Three files."""
    books = Books()
    export = books.export(receiver_of("files"), SignedFiles(directory, SECRET, books.clock))
    for total in (5, 9, 3):
        books.tell(total)
        books.tell(total, start_ms=T0 - 20 * SECOND_MS, tenant="=SUM(A1)")
        books.settle(export)
    return books


def test_a_table_is_parquet_too_where_that_is_asked_for_and_is_signed_with_it(tmp_path: Path) -> None:
    books = Books()
    export = books.export(receiver_of("files"), SignedFiles(tmp_path, SECRET, books.clock, parquet=True))
    books.tell(5, tenant="=SUM(A1)")
    books.settle(export)

    (path,) = tmp_path.glob("*.parquet")
    content = path.read_bytes()
    assert (content[:4], content[-4:]) == (b"PAR1", b"PAR1")
    assert b"=SUM(A1)" in content
    assert b"'=SUM(A1)" not in content  # No spreadsheet reads it, so nothing is put before a text.
    assert len(list(verified(tmp_path, SECRET))) == 1
    path.write_bytes(content.replace(b"=SUM(A1)", b"=SUM(A2)"))
    with pytest.raises(Tampered, match="parquet was changed"):
        list(verified(tmp_path, SECRET))


def test_each_part_of_a_window_is_a_row_that_says_its_adapter_or_class(tmp_path: Path) -> None:
    books = Books()
    export = books.export(receiver_of("files"), SignedFiles(tmp_path, SECRET, books.clock))
    books.tell(7, parts=(UsagePart(quantity=3), UsagePart(quantity=4, adapter="fin")))
    books.tell(80, meter=Meter.GPU_MS, account="serving", parts=(UsagePart(quantity=80, node_class="metal3.h100"),))
    books.settle(export)

    rows = sorted((row["meter"], row["adapter"], row["class"], row["quantity"]) for row in verified(tmp_path, SECRET))

    assert rows == [
        ("gpu_ms", "", "metal3.h100", "80"),
        ("prompt_tokens", "", "", "3"),
        ("prompt_tokens", "fin", "", "4"),
    ]


def test_rows_add_up_to_the_ledger_and_show_the_total(tmp_path: Path) -> None:
    written(tmp_path)

    rows = [row for row in verified(tmp_path, SECRET) if row["tenant"] == "acme"]

    assert [(row["quantity"], row["total"], row["revision"]) for row in rows] == [
        ("5", "5", "1"),
        ("4", "9", "2"),
        ("-6", "3", "3"),
    ]


def test_a_spreadsheet_finds_no_formula(tmp_path: Path) -> None:
    written(tmp_path)

    assert {row["tenant"] for row in verified(tmp_path, SECRET)} == {"acme", "'=SUM(A1)"}


def test_a_crash_after_writing_writes_no_row_again(tmp_path: Path) -> None:
    books = Books()
    sender = Dying(SignedFiles(tmp_path, SECRET, books.clock))
    for number in range(3):
        books.tell(number + 1, start_ms=T0 - number * 10 * SECOND_MS)
    with pytest.raises(Crash):
        books.settle(books.export(receiver_of("files"), sender))

    books.settle(books.export(receiver_of("files"), sender))

    ids = [row["id"] for row in verified(tmp_path, SECRET)]
    assert len(ids) == len(set(ids)) == 3


def test_what_has_no_manifest_was_never_written(tmp_path: Path) -> None:
    written(tmp_path)
    last = sorted(tmp_path.glob("*.manifest.json"))[-1]
    rows = len(list(verified(tmp_path, SECRET)))
    (tmp_path / "000000099.csv").write_text("half")
    last.unlink()

    assert len(list(verified(tmp_path, SECRET))) < rows


@pytest.mark.parametrize("change", ["row", "manifest", "missing", "swapped"])
def test_a_change_is_seen(tmp_path: Path, change: str) -> None:
    written(tmp_path)
    tables, manifests = sorted(tmp_path.glob("*.csv")), sorted(tmp_path.glob("*.manifest.json"))
    if change == "row":
        tables[1].write_bytes(tables[1].read_bytes().replace(b"acme", b"evil"))
    elif change == "manifest":
        manifests[1].write_text(json.dumps({**json.loads(manifests[1].read_bytes()), "rows": 7}))
    elif change == "missing":
        manifests[1].unlink()
    else:
        first, second = manifests[0].read_bytes(), manifests[1].read_bytes()
        manifests[0].write_bytes(second)
        manifests[1].write_bytes(first)

    with pytest.raises(Tampered):
        list(verified(tmp_path, SECRET))


def test_with_ed25519_anybody_with_the_public_key_can_check(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    path = tmp_path / "key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    books = Books()
    books.tell(5)
    books.settle(books.export(receiver_of("files"), SignedFiles(tmp_path / "f", signer_from(path), books.clock)))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    assert len(list(verified(tmp_path / "f", Ed25519Checker(public)))) == 1
    with pytest.raises(Tampered):
        list(verified(tmp_path / "f", Ed25519Checker(other)))


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"too short")

    with pytest.raises(Invalid, match="32 bytes"):
        signer_from(tmp_path / "short")


def test_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    books = Books()
    books.tell(5)
    (tmp_path / "d").write_text("a file where the directory should be")
    export = books.export(receiver_of("files"), SignedFiles(tmp_path / "d", SECRET, books.clock))
    for _ in range(3):
        export.run()
    (tmp_path / "d").unlink()

    books.settle(export)

    assert [row["quantity"] for row in verified(tmp_path / "d", SECRET)] == ["5"]
