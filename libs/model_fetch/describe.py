"""``python -m libs.model_fetch.describe``: writes the file of a model's revision from weights that are there."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from libs.common.errors import Invalid
from libs.model_fetch.manifest import File, Manifest, problems
from libs.model_fetch.sources import parse_source


def described(directory: Path, *, model: str, revision: str, source: str) -> str:
    """The text of the file. Raises Invalid if the source is none, or a file can't be part of a model."""
    parse_source(source)
    paths = sorted(each for each in directory.rglob("*") if each.is_file())
    manifest = Manifest(tuple(_file(each, str(each.relative_to(directory))) for each in paths))
    wrong = "; ".join(f"{field}: {what}" for field, what in problems(manifest.files))
    if wrong:
        raise Invalid(f"{directory}: {wrong}")
    head = (
        "version: 1",
        f"model: {model}",
        f'revision: "{revision}"',
        f"source: {source}",
        f"digest: {manifest.digest}",
        f"size_bytes: {manifest.size_bytes}",
        "files:",
    )
    return "\n".join((*head, *(_line(each) for each in manifest.files))) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write it to the output; 2 with one line if that can't be."""
    parser = argparse.ArgumentParser(prog="python -m libs.model_fetch.describe", description=__doc__)
    parser.add_argument("directory", type=Path)
    for name in ("--model", "--revision", "--source"):
        parser.add_argument(name, required=True)
    args = parser.parse_args(argv)
    try:
        sys.stdout.write(described(args.directory, model=args.model, revision=args.revision, source=args.source))
    except (Invalid, OSError) as wrong:
        sys.stderr.write(f"describe: {wrong}\n")
        return 2
    return 0


def _line(file: File) -> str:
    return f"  - {{path: {file.path}, size_bytes: {file.size_bytes}, sha256: {file.sha256}}}"


def _file(path: Path, name: str) -> File:
    with path.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return File(name, path.stat().st_size, sha256)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
