"""The files that say where models' weights are: read whole, and refused with the field named."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from libs.common.errors import Invalid
from libs.common.model_files import read_model_files
from libs.model_fetch.describe import described
from libs.model_fetch.manifest import File, Manifest

SUM: Final = hashlib.sha256(b"weights").hexdigest()
FILES: Final = Manifest((File("model.safetensors", 7, SUM), File("config.json", 2, SUM)))


def entry(**changes: Any) -> dict[str, Any]:
    whole = {
        "version": 1,
        "model": "o/n",
        "revision": "v1",
        "source": "s3://models/n",
        "endpoint": "https://s3.example.com",
        "region": "eu-1",
        "secret": "model-source",
        "digest": FILES.digest,
        "size_bytes": 9,
        "files": [{"path": each.path, "size_bytes": each.size_bytes, "sha256": each.sha256} for each in FILES.files],
    }
    return {**whole, **changes}


def write(catalogue: Path, **files: dict[str, Any]) -> Path:
    (catalogue / "models").mkdir(exist_ok=True)
    for name, content in files.items():
        (catalogue / "models" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return catalogue


def test_a_revision_is_found_by_its_digest(tmp_path: Path) -> None:
    found = read_model_files(write(tmp_path, n=entry()))

    assert list(found) == [FILES.digest]
    assert found[FILES.digest].manifest.text == FILES.text


def test_a_catalogue_without_such_files_has_none(tmp_path: Path) -> None:
    assert not read_model_files(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"digest": "sha256:12"}, "digest: "),
        ({"digest": f"sha256:{SUM}"}, f"digest: is sha256:{SUM}, its files make {FILES.digest}"),
        ({"size_bytes": 8}, "size_bytes: is 8, its files make 9"),
        ({"files": [{"path": "../m", "size_bytes": 7, "sha256": SUM}]}, "files.0.path: '../m' is no path"),
        ({"files": [{"path": "m", "size_bytes": 7, "sha256": "abc"}]}, "files.0.sha256: 'abc' is no sha256"),
        ({"files": []}, "files: there are none"),
        ({"source": "ftp://x"}, "source: 'ftp://x' is no source of a model"),
        ({"source": "file:///mnt/x"}, "endpoint: only an S3 service and a hub have one"),
        ({"endpoint": "s3.example.com"}, "endpoint: "),
        ({"secret": "No Name"}, "secret: "),
        ({"revison": "v1"}, "revison: "),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_field(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid) as refusal:
        read_model_files(write(tmp_path, n=entry(**change)))

    assert says in str(refusal.value)
    assert "n.yaml" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_two_files_for_one_digest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="another file has"):
        read_model_files(write(tmp_path, a=entry(), b=entry(source="s3://models/other")))


def test_what_describe_writes_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "weights/a").mkdir(parents=True)
    (tmp_path / "weights/a/m").write_bytes(b"weights")
    (tmp_path / "models").mkdir()

    text = described(tmp_path / "weights", model="o/n", revision="1", source="s3://models/n")
    (tmp_path / "models/n.yaml").write_text(text)

    (found,) = read_model_files(tmp_path).values()
    assert found.manifest.files == (File("a/m", 7, SUM),)
    assert (found.model, found.revision, found.source) == ("o/n", "1", "s3://models/n")
