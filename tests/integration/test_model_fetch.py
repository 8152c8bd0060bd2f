"""The init step against real servers on loopback: what it brings is whole and right, else it says exactly why not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from libs.model_fetch.__main__ import MANIFEST, main
from libs.model_fetch.cache import hold
from libs.model_fetch.manifest import File, Manifest
from libs.model_fetch.reasons import EXIT_CODES, Reason
from libs.model_fetch.volume import Volume
from tests.support.model_sources import Shelf, linked, served

ROOT: Final = Path(__file__).parents[2]
DEADLINE_S: Final = 60.0
SPAN_BYTES: Final = 64 * 1024
_chance: Final = random.Random(5)
CONTENT: Final = {
    "config.json": b'{"layers": 2}',
    "empty.txt": b"",
    "weights/model-1.safetensors": _chance.randbytes(700_001),
    "weights/model-2.safetensors": _chance.randbytes(SPAN_BYTES),
}


def a_manifest(content: dict[str, bytes]) -> Manifest:
    return Manifest(
        tuple(File(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in sorted(content.items()))
    )


WHOLE: Final = a_manifest(CONTENT)


class Box:
    """One volume, and the files that a container writes to say what happened."""

    def __init__(self, root: Path) -> None:
        self.into = root / "models"
        self.told = root / "told"
        self.env: dict[str, str] = {}

    def arguments(self, source: str, manifest: Manifest, *more: str) -> list[str]:
        said = ["--model", "m", "--digest", manifest.digest, "--size-bytes", str(manifest.size_bytes)]
        place = ["--source", source, "--into", str(self.into), "--told", str(self.told)]
        return [*said, *place, "--span-bytes", str(SPAN_BYTES), "--pause-s", "0.01", *more]

    def fetch(self, source: str, *more: str, manifest: Manifest = WHOLE) -> int:
        return main(self.arguments(source, manifest, *more), {**self.env, MANIFEST: manifest.text})

    def start(self, source: str, *more: str, manifest: Manifest = WHOLE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "libs.model_fetch", *self.arguments(source, manifest, *more)],
            env={**os.environ, **self.env, MANIFEST: manifest.text, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def said(self) -> str:
        return self.told.read_text()

    @property
    def outcome(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said)
        return found

    @property
    def whole(self) -> Path:
        return Volume(self.into, WHOLE).whole

    @property
    def partial(self) -> Path:
        return Volume(self.into, WHOLE).partial

    def content(self) -> dict[str, bytes]:
        return {path: (self.whole / path).read_bytes() for path in CONTENT}


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def s3() -> Iterator[Shelf]:
    with served(Shelf({f"/bucket/m/{path}": data for path, data in CONTENT.items()})) as shelf:
        yield shelf


SOURCE: Final = "s3://bucket/m"


def until(holds: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < give_up_s, "it never came true"
        time.sleep(0.01)


def test_a_model_is_brought_whole_and_the_second_pod_finds_it_there(box: Box, s3: Shelf) -> None:
    assert box.fetch(SOURCE, "--endpoint", s3.url) == 0
    assert box.content() == CONTENT
    assert (box.outcome["cache"], box.outcome["bytes_fetched"]) == ("miss", WHOLE.size_bytes)
    asked = len(s3.requests)

    assert box.fetch(SOURCE, "--endpoint", s3.url) == 0

    assert (box.outcome["cache"], box.outcome["bytes_fetched"]) == ("hit", 0)
    assert len(s3.requests) == asked


def test_what_breaks_is_gone_on_with_from_where_it_broke(box: Box, s3: Shelf) -> None:
    s3.truncated, s3.unavailable = 5, 3

    assert box.fetch(SOURCE, "--endpoint", s3.url) == 0

    assert box.content() == CONTENT
    assert s3.sent_bytes < 1.5 * WHOLE.size_bytes


def test_a_source_that_knows_no_ranges_is_read_all_the_same(box: Box, s3: Shelf) -> None:
    s3.knows_ranges = False

    assert box.fetch(SOURCE, "--endpoint", s3.url, "--workers", "2") == 0

    assert box.content() == CONTENT


def test_a_fetch_that_was_killed_goes_on_from_what_is_right_on_the_disk(box: Box, s3: Shelf) -> None:
    s3.held_at_bytes = 7 * SPAN_BYTES
    first = box.start(SOURCE, "--endpoint", s3.url, "--workers", "2")
    journal = box.into / f".journal-{WHOLE.digest.removeprefix('sha256:')}"
    until(lambda: journal.exists() and len(journal.read_text().splitlines()) >= 4)
    first.kill()
    first.communicate()
    assert not box.whole.exists()
    s3.held_at_bytes = 0
    s3.released.set()
    path, start, _, _ = next(line for line in journal.read_text().splitlines() if "model-1" in line).split()
    with (box.partial / path).open("r+b") as damaged:
        damaged.seek(int(start))
        damaged.write(bytes(100))

    assert box.fetch(SOURCE, "--endpoint", s3.url) == 0

    assert box.content() == CONTENT
    fetched = box.outcome["bytes_fetched"]
    assert SPAN_BYTES <= fetched <= WHOLE.size_bytes - 2 * SPAN_BYTES  # Not what was right, but what was damaged.


def test_two_pods_on_one_volume_download_once(box: Box, s3: Shelf, tmp_path: Path) -> None:
    s3.block_s = 0.02
    first = box.start(SOURCE, "--endpoint", s3.url)
    until(lambda: s3.sent_bytes > 0)
    other = Box(tmp_path)
    other.told = tmp_path / "told-2"

    assert other.fetch(SOURCE, "--endpoint", s3.url) == 0

    assert first.communicate(timeout=DEADLINE_S) is not None
    assert (first.returncode, box.outcome["cache"], other.outcome["cache"]) == (0, "miss", "hit")
    assert s3.sent_bytes == WHOLE.size_bytes


def test_a_wrong_byte_is_found_and_nothing_is_seen_as_a_model(box: Box, s3: Shelf) -> None:
    good = s3.files["/bucket/m/weights/model-1.safetensors"]
    s3.files["/bucket/m/weights/model-1.safetensors"] = good[:5000] + bytes([good[5000] ^ 1]) + good[5001:]

    assert box.fetch(SOURCE, "--endpoint", s3.url) == 10

    assert box.said.startswith("DigestMismatch: weights/model-1.safetensors is sha256:")
    assert not box.whole.exists()
    s3.files["/bucket/m/weights/model-1.safetensors"] = good
    assert box.fetch(SOURCE, "--endpoint", s3.url) == 0
    assert box.outcome["bytes_fetched"] < WHOLE.size_bytes  # The files that were right stayed.


def test_a_model_that_rots_on_the_volume_is_mended(box: Box, s3: Shelf) -> None:
    assert box.fetch(SOURCE, "--endpoint", s3.url) == 0
    rotten = box.whole / "weights/model-2.safetensors"
    rotten.write_bytes(bytes(SPAN_BYTES))

    assert box.fetch(SOURCE, "--endpoint", s3.url) == 0

    assert box.content() == CONTENT
    assert box.outcome["bytes_fetched"] == SPAN_BYTES


def test_a_file_of_another_size_is_refused_before_it_is_brought(box: Box, s3: Shelf) -> None:
    s3.files["/bucket/m/weights/model-1.safetensors"] += b"x"

    assert box.fetch(SOURCE, "--endpoint", s3.url) == 11

    assert "is 700002 bytes at its source, the manifest says 700001" in box.said


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "words"),
    [
        (404, "NoSuchKey", 12, "ModelNotFound: s3://bucket/m/config.json is not there (NoSuchKey)"),
        (
            403,
            "AccessDenied",
            14,
            "SourceForbidden: s3://bucket/m/config.json may not be read anonymously (AccessDenied)",
        ),
        (400, "AuthorizationHeaderMalformed", 17, "check endpoint"),
    ],
)
def test_what_s3_refuses_is_said_by_its_reason(
    box: Box, s3: Shelf, status: int, code: str, exit_code: int, words: str
) -> None:
    s3.answers["/bucket/m/config.json"] = (status, {}, f"<Error><Code>{code}</Code></Error>".encode())

    assert box.fetch(SOURCE, "--endpoint", s3.url) == exit_code

    assert words in box.said


def test_a_source_that_never_answers_is_given_up(box: Box) -> None:
    assert box.fetch(SOURCE, "--endpoint", "http://127.0.0.1:9") == 16

    assert box.said.startswith("SourceUnreachable: 127.0.0.1:9 does not answer: ")


def test_a_full_disk_is_said_as_such(box: Box, s3: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)

    assert box.fetch(SOURCE, "--endpoint", s3.url) == 15

    assert box.said.startswith("DiskTooSmall: the volume is full")


def test_a_volume_without_room_is_said_before_a_byte_comes(box: Box) -> None:
    vast = Manifest((File("m", 1 << 60, "0" * 64),))

    assert box.fetch(SOURCE, "--endpoint", "http://127.0.0.1:9", manifest=vast) == 15

    assert "1152921504606846976 bytes are missing and the volume has " in box.said


def test_a_manifest_that_is_not_the_pinned_one_is_refused(box: Box) -> None:
    other = a_manifest({"config.json": b"{}"})

    code = main(box.arguments(SOURCE, WHOLE), {MANIFEST: other.text})

    assert code == 10
    assert box.said == f"DigestMismatch: the manifest is {other.digest}, the endpoint is pinned to {WHOLE.digest}"


def test_half_a_pair_of_credentials_is_refused(box: Box) -> None:
    box.env = {"AWS_ACCESS_KEY_ID": "key"}

    assert box.fetch(SOURCE) == 17

    assert "AWS_SECRET_ACCESS_KEY: give both" in box.said


def test_a_directory_is_copied_and_verified(box: Box, tmp_path: Path) -> None:
    for path, data in CONTENT.items():
        (tmp_path / "shared" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shared" / path).write_bytes(data)

    assert box.fetch(f"file://{tmp_path}/shared") == 0
    assert box.content() == CONTENT
    assert Box(tmp_path / "b").fetch("pvc://weights/shared", "--mounted", str(tmp_path)) == 0
    assert Box(tmp_path / "c").fetch("pvc://weights/none", "--mounted", str(tmp_path)) == 12


def test_what_the_engines_image_has_is_not_fetched(box: Box) -> None:
    assert box.fetch("baked:///opt/model") == 0

    assert box.outcome["cache"] == "baked"


def a_hub() -> tuple[Shelf, Shelf]:
    """The hub and the other host of its large files, which begin with `weights/`."""
    hub, other = Shelf(), Shelf()
    for path, data in CONTENT.items():
        where = other if path.startswith("weights/") else hub
        where.files[f"/o/n/resolve/v1/{path}"] = data
    return hub, other


def test_the_hubs_large_files_come_from_its_other_host_without_the_token(box: Box) -> None:
    hub, other = a_hub()
    box.env = {"HF_TOKEN": "hf_secret"}
    with served(hub), served(other):
        for path, data in CONTENT.items():
            if path.startswith("weights/"):
                hub.answers[f"/o/n/resolve/v1/{path}"] = linked(data, f"{other.url}/o/n/resolve/v1/{path}")

        assert box.fetch("hf://o/n@v1", "--endpoint", hub.url) == 0

    assert box.content() == CONTENT
    assert {headers.get("authorization") for _, headers in hub.requests} == {"Bearer hf_secret"}
    assert {headers.get("authorization") for _, headers in other.requests} == {None}


def test_a_file_that_the_hub_itself_says_is_another_is_refused_before_it_is_brought(box: Box) -> None:
    hub, other = a_hub()
    with served(hub), served(other):
        path = "/o/n/resolve/v1/weights/model-1.safetensors"
        changed = b"x" + CONTENT["weights/model-1.safetensors"][1:]
        hub.answers[path] = linked(changed, f"{other.url}{path}")

        assert box.fetch("hf://o/n@v1", "--endpoint", hub.url, "--workers", "1") == 10

    assert "on the hub, the manifest says sha256:" in box.said
    assert not other.sent_bytes


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "words"),
    [
        (401, "GatedRepo", 13, "ModelGated: hf://o/n@v1 is gated: accept its terms on the hub"),
        (403, "GatedRepo", 13, "ModelGated: hf://o/n@v1 is gated: accept its terms on the hub"),
        (401, "RepoNotFound", 12, "ModelNotFound: hf://o/n@v1 is not there (RepoNotFound) or is private"),
        (404, "RevisionNotFound", 12, "ModelNotFound: hf://o/n@v1 is not there (RevisionNotFound)"),
        (404, "EntryNotFound", 12, "ModelNotFound: hf://o/n@v1: config.json is not there (EntryNotFound)"),
        (403, "", 13, "ModelGated: hf://o/n@v1 may not be read (HTTP 403)"),
    ],
)
def test_what_the_hub_refuses_is_said_by_its_reason(
    box: Box, status: int, code: str, exit_code: int, words: str
) -> None:
    hub, _ = a_hub()
    hub.answers["/o/n/resolve/v1/config.json"] = (status, {"x-error-code": code} if code else {}, b"")
    with served(hub):
        assert box.fetch("hf://o/n@v1", "--endpoint", hub.url, "--workers", "1") == exit_code

    assert box.said.startswith(words)


def test_progress_is_said_in_lines_while_bytes_come(box: Box, s3: Shelf) -> None:
    s3.held_at_bytes = 5 * SPAN_BYTES
    process = box.start(SOURCE, "--endpoint", s3.url)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(json.loads(line))
        if 0 < said[-1]["bytes_done"] < WHOLE.size_bytes:
            s3.released.set()

    assert process.wait(timeout=DEADLINE_S) == 0
    done = [each["bytes_done"] for each in said]
    assert done == sorted(done)
    assert {each["bytes_total"] for each in said} == {WHOLE.size_bytes}
    assert s3.released.is_set()
    assert (said[-1]["state"], done[-1]) == ("done", WHOLE.size_bytes)


def test_a_fetch_that_is_told_to_stop_stops_at_once(box: Box, s3: Shelf) -> None:
    s3.held_at_bytes = 5 * SPAN_BYTES
    process = box.start(SOURCE, "--endpoint", s3.url)
    assert process.stdout is not None
    process.stdout.readline()  # It said something: it is past its start.

    process.terminate()

    assert process.wait(timeout=DEADLINE_S) == 143
    process.communicate()


BRIEF: Final = {"a": b"a" * 3000, "b": b"b" * 3000, "c": b"c" * 3000}


def test_a_full_cache_evicts_what_was_used_longest_ago_and_nothing_that_is_held_or_kept(tmp_path: Path) -> None:
    box = Box(tmp_path)
    manifests = {name: a_manifest({"w": data}) for name, data in BRIEF.items()}
    digests = {name: each.digest for name, each in manifests.items()}
    with served(Shelf({f"/bucket/{name}/w": data for name, data in BRIEF.items()})) as s3:

        def fetch(name: str, *more: str, capacity_bytes: int = 6000) -> int:
            more = ("--endpoint", s3.url, "--capacity-bytes", str(capacity_bytes), *more)
            return box.fetch(f"s3://bucket/{name}", *more, manifest=manifests[name])

        assert [fetch(each) for each in ("a", "b", "a")] == [0, 0, 0]
        assert box.outcome["cache"] == "hit"
        assert box.outcome["bytes_fetched"] == 0
        assert fetch("c") == 0, "b was used longest ago"
        assert box.outcome["models"] == {digests["a"]: 3000, digests["c"]: 3000}

        held = hold(box.into, digests["a"])
        assert fetch("b", "--keep", digests["c"]) == EXIT_CODES[Reason.DISK_TOO_SMALL]
        assert "2 models of 6000 bytes are in use or to be kept" in box.said
        assert fetch("b") == 0, "c is not kept by this one"
        assert box.outcome["models"] == {digests["a"]: 3000, digests["b"]: 3000}
        os.close(held)
        assert fetch("c") == 0, "a is held no longer"
        assert box.outcome["models"] == {digests["b"]: 3000, digests["c"]: 3000}
        assert sorted(each.name for each in box.into.glob("sha256-*")) == sorted(
            digests[each].replace(":", "-") for each in ("b", "c")
        )
        assert not list(box.into.glob(".going-*"))


def test_a_fetch_ends_only_when_its_pod_holds_the_model(tmp_path: Path) -> None:
    box, held = Box(tmp_path), tmp_path / "held"
    source = tmp_path / "source"
    source.mkdir()
    (source / "w").write_bytes(b"w")
    manifest = a_manifest({"w": b"w"})
    fetch = box.start(f"file://{source}", "--held", str(held), manifest=manifest)
    try:
        give_up_s = time.monotonic() + DEADLINE_S
        while not Volume(box.into, manifest).whole.is_dir():
            assert time.monotonic() < give_up_s, "it brings nothing"
            time.sleep(0.01)
        assert fetch.poll() is None
        assert not box.told.exists()
        held.touch()
        assert fetch.wait(DEADLINE_S) == 0
    finally:
        fetch.kill()
        fetch.communicate()
