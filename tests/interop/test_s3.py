"""The fetch of a model against somebody else's S3: moto's server, which checks signatures with Amazon's own library."""

from __future__ import annotations

import json
import random
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.integration.test_model_fetch import SPAN_BYTES, Box, a_manifest
from tests.support.held_relay import held
from tests.support.pip import installed

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("s3")]

HERE: Final = Path(__file__).parent / "s3"
DEADLINE_S: Final = 120
ABSENT: Final = "MOTO COULD NOT BE INSTALLED (from PyPI): THE FETCH WAS NOT TESTED AGAINST ANOTHER'S S3"
CONTENT: Final = {
    "config.json": b'{"layers": 2}',
    "a+b/x.bin": b"a path with a sign that is quoted",
    "model.safetensors": random.Random(7).randbytes(8 << 20),
}
WHOLE: Final = a_manifest(CONTENT)
SOURCE: Final = "s3://models/llama/8b"


class Server:
    """Moto, running."""

    def __init__(self, url: str, key_id: str, secret: str) -> None:
        self.url = url
        self.env = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has moto, in an environment of the test's own."""
    return installed(HERE / "requirements.txt", tmp_path_factory.mktemp("s3"), absent=ABSENT)


@contextmanager
def serving(python: Path, home: Path, kind: str, content: dict[str, bytes] | None = None) -> Iterator[Server]:
    bucket = home / "bucket"
    for path, data in (content or CONTENT).items():
        (bucket / "llama/8b" / path).parent.mkdir(parents=True, exist_ok=True)
        (bucket / "llama/8b" / path).write_bytes(data)
    process = subprocess.Popen(
        [python, str(HERE / "serve.py"), str(bucket), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Server(**json.loads(process.stdout.readline()))
    finally:
        process.communicate(timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def signed(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(python, tmp_path_factory.mktemp("signed"), "signed") as server:
        yield server


def content_of(box: Box) -> dict[str, bytes]:
    (whole,) = box.into.glob("sha256-*")
    return {path: (whole / path).read_bytes() for path in CONTENT}


def test_a_signed_fetch_is_let_in_and_brings_everything(signed: Server, tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.env = signed.env

    assert box.fetch(SOURCE, "--endpoint", signed.url, manifest=WHOLE) == 0, box.said

    assert content_of(box) == CONTENT


def test_a_wrong_secret_is_refused_by_the_server_and_said_as_such(signed: Server, tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.env = {**signed.env, "AWS_SECRET_ACCESS_KEY": "wrong"}

    assert box.fetch(SOURCE, "--endpoint", signed.url, "--workers", "1", manifest=WHOLE) == 14

    assert "(SignatureDoesNotMatch): check the Secret" in box.said


def test_a_key_that_nobody_knows_is_refused(signed: Server, tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.env = {**signed.env, "AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"}

    assert box.fetch(SOURCE, "--endpoint", signed.url, "--workers", "1", manifest=WHOLE) == 14

    assert "InvalidAccessKeyId" in box.said


def test_a_fetch_that_is_killed_in_the_middle_goes_on(signed: Server, tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.env = signed.env
    address = urllib.parse.urlsplit(signed.url)
    assert address.hostname is not None
    assert address.port is not None
    with held(address.hostname, address.port, at_bytes=40 * SPAN_BYTES) as relay:
        process = box.start(SOURCE, "--endpoint", relay.url, "--workers", "2", manifest=WHOLE)
        give_up_s = time.monotonic() + DEADLINE_S
        while not any(len(each.read_text().splitlines()) >= 20 for each in box.into.glob(".journal-*")):
            assert time.monotonic() < give_up_s, "it never came that far"
            time.sleep(0.01)
        process.kill()
        process.communicate()
    assert not list(box.into.glob("sha256-*"))

    assert box.fetch(SOURCE, "--endpoint", signed.url, manifest=WHOLE) == 0, box.said

    assert content_of(box) == CONTENT
    assert box.outcome["bytes_fetched"] <= WHOLE.size_bytes - 15 * SPAN_BYTES


def test_a_public_bucket_needs_no_key_and_a_wrong_byte_in_it_is_found(python: Path, tmp_path: Path) -> None:
    damaged = bytearray(CONTENT["model.safetensors"])
    damaged[5_000_000] ^= 1
    box = Box(tmp_path)
    with serving(python, tmp_path, "anonymous", {**CONTENT, "model.safetensors": bytes(damaged)}) as server:
        assert box.fetch(SOURCE, "--endpoint", server.url, manifest=WHOLE) == 10

    assert box.said.startswith("DigestMismatch: model.safetensors is sha256:")


def test_what_is_not_in_the_bucket_is_not_found(signed: Server, tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.env = signed.env

    assert box.fetch("s3://models/none", "--endpoint", signed.url, "--workers", "1", manifest=WHOLE) == 12

    assert "(NoSuchKey)" in box.said
