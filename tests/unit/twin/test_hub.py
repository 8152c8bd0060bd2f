"""The hub of the local profile: what it has is what the profile's file of the model says; parts may be asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import pytest
import yaml

from libs.cli.profile import CATALOGUE, MODELS, Home, LocalSettings
from libs.common.model_files import read_model_files
from libs.twin.hub import SIZE_BYTES, Hub, Part
from services.endpoint_api.shell.catalogue import read_catalogue

FILE: Final = "/hub/millrace/ngram-1/resolve/r1"


def read(path: str, *, span: str = "", is_spoiled: bool = False) -> tuple[int, bytes]:
    found = Hub().open(path, {"range": span} if span else {}, is_spoiled=is_spoiled)
    return (found.head.status, b"".join(found.blocks())) if isinstance(found, Part) else (found.status, found.body)


def test_what_the_hub_has_is_what_the_local_profile_pins_and_the_catalogue_sells(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare(LocalSettings())

    (record,) = read_model_files(home.catalogue).values()
    sold = next(each for each in read_catalogue(home.catalogue).models if each.id == record.model)

    assert record.endpoint == "http://127.0.0.1:8600/hub"
    assert (sold.digest, sold.size_bytes) == (record.digest, SIZE_BYTES)
    for each in record.files:
        found = Hub().open(f"{FILE}/{each.path}", {})
        assert isinstance(found, Part)
        digest, size_bytes = hashlib.sha256(), 0
        for block in found.blocks():
            digest.update(block)
            size_bytes += len(block)
        assert (digest.hexdigest(), size_bytes) == (each.sha256, each.size_bytes)


def test_the_catalogue_that_comes_with_it_sells_what_the_local_profile_pins() -> None:
    (file,) = MODELS.glob("*.yaml")
    pinned = yaml.safe_load(file.read_text())["digest"]

    assert pinned in {each.digest for each in read_catalogue(CATALOGUE).models}


@pytest.mark.parametrize(
    ("span", "status", "size_bytes"), [("", 200, 6625), ("bytes=0-9", 206, 10), ("bytes=6620-9999", 206, 5)]
)
def test_a_part_may_be_asked_for(span: str, status: int, size_bytes: int) -> None:
    _, whole = read(f"{FILE}/corpus.txt")

    told, part = read(f"{FILE}/corpus.txt", span=span)

    assert (told, len(part)) == (status, size_bytes)
    assert part in whole


def test_parts_of_the_weights_differ_from_each_other_and_spoiled_ones_from_good_ones() -> None:
    first, second = (read(f"{FILE}/weights.bin", span=f"bytes={start}-{start + 99}") for start in (0, 16 << 20))

    assert first != second
    assert read(f"{FILE}/weights.bin", span="bytes=0-99", is_spoiled=True) != first


@pytest.mark.parametrize(
    ("path", "span", "status"),
    [
        (f"{FILE}/none.bin", "", 404),
        ("/hub/millrace/other/resolve/r1/corpus.txt", "", 404),
        ("/hub/millrace/ngram-1/resolve/r2/corpus.txt", "", 404),
        ("/hub/", "", 404),
        (f"{FILE}/corpus.txt", "bytes=9999-10000", 416),
    ],
)
def test_what_is_not_there_is_refused(path: str, span: str, status: int) -> None:
    assert read(path, span=span)[0] == status
