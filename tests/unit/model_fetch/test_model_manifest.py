"""The manifest of a model, and where it comes from."""

from __future__ import annotations

import hashlib
import re

import pytest

from libs.common.errors import Invalid
from libs.model_fetch.manifest import FILES_MAX, File, Manifest, parse, problems
from libs.model_fetch.sources import Scheme, Source, parse_source

SUM = hashlib.sha256(b"weights").hexdigest()
WEIGHTS = File("a/model.safetensors", 7, SUM)
CONFIG = File("config.json", 2, SUM)


def test_a_manifest_says_the_same_whatever_the_order_of_its_files() -> None:
    one, other = Manifest((WEIGHTS, CONFIG)), Manifest((CONFIG, WEIGHTS))

    assert one.text == f"{SUM} 7 a/model.safetensors\n{SUM} 2 config.json\n"
    assert one.digest == other.digest == f"sha256:{hashlib.sha256(one.text.encode()).hexdigest()}"
    assert one.size_bytes == 9
    assert parse(one.text) == one


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (File("m", 1, "sha256:" + SUM), "files.0.sha256"),
        (File("m", 1, SUM.upper()), "files.0.sha256"),
        (File("m", -1, SUM), "files.0.size_bytes"),
        (File("../m", 1, SUM), "files.0.path"),
        (File("/m", 1, SUM), "files.0.path"),
        (File("a//m", 1, SUM), "files.0.path"),
        (File("a b", 1, SUM), "files.0.path"),
        (File("m\n", 1, SUM), "files.0.path"),
        (File("", 1, SUM), "files.0.path"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_field(wrong: File, field: str) -> None:
    assert [each for each, _ in problems([wrong])] == [field]


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ((), "none"),
        ((CONFIG, CONFIG), "twice"),
        ((File("a", 1, SUM), File("a/b", 1, SUM)), "directory"),
        (tuple(File(f"m{n}", 1, SUM) for n in range(FILES_MAX + 1)), "at most"),
        (tuple(File(f"{n:03}{'m' * 190}", 1, SUM) for n in range(FILES_MAX)), "bytes to write down"),
    ],
)
def test_files_that_contradict_one_another_are_refused(files: tuple[File, ...], word: str) -> None:
    assert word in " ".join(what for _, what in problems(files))


@pytest.mark.parametrize("line", ["", "x", f"{SUM} seven m", f"{SUM} 7 a b", f"{SUM} -7 a"])
def test_a_line_that_is_no_file_is_refused(line: str) -> None:
    with pytest.raises(Invalid, match=r"manifest: (line 1|files)"):
        parse(f"{line}\n" if line else "")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://models", Source(Scheme.S3, "models")),
        ("s3://models/llama/8b", Source(Scheme.S3, "models", "llama/8b")),
        ("hf://meta/Llama-3@main", Source(Scheme.HUB, "meta/Llama-3", revision="main")),
        ("file:///mnt/models/x", Source(Scheme.DIRECTORY, path="/mnt/models/x")),
        ("pvc://weights/x", Source(Scheme.CLAIM, "weights", "x")),
        ("baked:///opt/model", Source(Scheme.BAKED, path="/opt/model")),
    ],
)
def test_a_source_is_read(uri: str, parts: Source) -> None:
    assert parse_source(uri) == parts


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "models",
        "ftp://x/y",
        "s3://",
        "s3://UPPER",
        "s3://a/../b",
        "hf://x@main",
        "hf://o/n",
        "file://x",
        "pvc:///x",
    ],
)
def test_a_source_that_is_none_is_refused_with_the_form(uri: str) -> None:
    with pytest.raises(Invalid, match=re.escape("is no source of a model: write ")):
        parse_source(uri)
