"""The places that a model may be read from, behind one port: S3, the Hugging Face hub, a directory."""

from __future__ import annotations

import datetime
import http.client
import os
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from libs.common.clock import Clock
from libs.model_fetch.manifest import SHA256, File, short
from libs.model_fetch.reasons import FetchFailed, Interrupted, Reason
from libs.model_fetch.signing import Credentials, quoted, signed
from libs.model_fetch.sources import Source
from libs.model_fetch.web import BLOCK_BYTES, Web, is_for_later, retry_after_s, span

REDIRECTS_MAX: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
HUB: Final = "https://huggingface.co"
S3_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")


class Reader(Protocol):
    """Reads files of one model; used by several threads at once."""

    def read(self, file: File, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``end``. Raises Interrupted (try again) or FetchFailed."""


@dataclass(frozen=True, slots=True)
class S3Reader:
    """Objects under a prefix of a bucket; signed where there are credentials, anonymous where there are none."""

    source: Source
    endpoint: str
    region: str
    credentials: Credentials | None
    web: Web
    clock: Clock

    def read(self, file: File, start: int, end: int) -> Iterator[bytes]:
        """See Reader."""
        key = "/".join(part for part in (self.source.place, self.source.path, file.path) if part)
        base = urllib.parse.urlsplit(self.endpoint)
        path = quoted(f"{base.path.rstrip('/')}/{key}")
        headers = span(file, start, end)
        if self.credentials is not None:
            at = datetime.datetime.fromtimestamp(self.clock.now_ms() / 1000, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
            headers = signed(
                host=base.netloc, path=path, headers=headers, credentials=self.credentials, region=self.region, at=at
            )
        response = self.web.get(f"{base.scheme}://{base.netloc}{path}", headers)
        if response.status not in (200, 206):
            raise self._refusal(response, key)
        yield from self.web.body(response, file, start, end)

    def _refusal(self, response: http.client.HTTPResponse, key: str) -> FetchFailed | Interrupted:
        status, region = response.status, response.getheader("x-amz-bucket-region", "")
        found = S3_CODE.search(self.web.said(response))
        code = found[1] if found else f"HTTP {status}"
        self.web.drop()
        if is_for_later(status) or code in ("SlowDown", "RequestTimeout"):
            return Interrupted(f"s3://{key}: {code}", retry_after_s=retry_after_s(response))
        if status == 404:
            return FetchFailed(Reason.NOT_FOUND, f"s3://{key} is not there ({code}): mend the source or upload it")
        if status in (401, 403):
            who = "anonymously" if self.credentials is None else f"as {self.credentials.access_key_id}"
            return FetchFailed(
                Reason.FORBIDDEN, f"s3://{key} may not be read {who} ({code}): check the Secret, and what its key may"
            )
        hint = f"; the bucket is in region {region}" if region else ""
        return FetchFailed(Reason.INVALID, f"s3://{key}: {code}: check endpoint {self.endpoint} and region{hint}")


class HubReader:
    """A revision of a repository on the Hugging Face hub: its large files are served by another host."""

    def __init__(self, source: Source, *, endpoint: str, token: str, web: Web) -> None:
        self._source = source
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._web = web
        self._located: dict[str, str] = {}
        self._lock = threading.Lock()

    def read(self, file: File, start: int, end: int) -> Iterator[bytes]:
        """See Reader."""
        repository, revision = self._source.place, self._source.revision
        here = f"{self._endpoint}/{repository}/resolve/{revision}/{urllib.parse.quote(file.path)}"
        url = self._located.get(file.path, here)
        for _ in range(REDIRECTS_MAX):
            response = self._web.get(url, {**span(file, start, end), **self._proof(url)})
            if response.status not in REDIRECTS:
                break
            self._check_linked(file, response)
            self._web.said(response)
            url = urllib.parse.urljoin(url, response.getheader("location", ""))
        if response.status in (200, 206):
            with self._lock:
                self._located[file.path] = url
            yield from self._web.body(response, file, start, end)
            return
        self._web.said(response)
        self._web.drop()
        if self._located.pop(file.path, None) is not None or is_for_later(response.status):
            what = f"{file.path}: HTTP {response.status}"  # A signed address ends after minutes.
            raise Interrupted(what, retry_after_s=retry_after_s(response))
        raise self._refusal(response, file)

    def _proof(self, url: str) -> dict[str, str]:
        """The token goes to the hub alone, wherever it sends us."""
        is_hub = urllib.parse.urlsplit(url).netloc == urllib.parse.urlsplit(self._endpoint).netloc
        return {"authorization": f"Bearer {self._token}"} if self._token and is_hub else {}

    @staticmethod
    def _check_linked(file: File, response: http.client.HTTPResponse) -> None:
        """Before a byte comes: what the hub itself says of a large file."""
        size = response.getheader("x-linked-size", "")
        if size.isdecimal() and int(size) != file.size_bytes:
            what = f"{file.path} is {size} bytes on the hub, the manifest says {file.size_bytes}"
            raise FetchFailed(Reason.SIZE_MISMATCH, what)
        sha256 = response.getheader("x-linked-etag", "").removeprefix("W/").strip('"')
        if SHA256.fullmatch(sha256) is not None and sha256 != file.sha256:
            what = f"{file.path} is {short(sha256)} on the hub, the manifest says {short(file.sha256)}"
            raise FetchFailed(Reason.DIGEST_MISMATCH, what)

    def _refusal(self, response: http.client.HTTPResponse, file: File) -> FetchFailed:
        status, code = response.status, response.getheader("x-error-code", "")
        what = f"hf://{self._source.place}@{self._source.revision}"
        if code == "GatedRepo":
            whose = (
                "the account of its token" if self._token else "an account, and give its token in the Secret (HF_TOKEN)"
            )
            return FetchFailed(Reason.GATED, f"{what} is gated: accept its terms on the hub with {whose}")
        if code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound") or status == 404:
            what = f"{what}: {file.path}" if code == "EntryNotFound" else what
            hint = " or is private: its Secret needs an HF_TOKEN that may read it" if status == 401 else ""
            return FetchFailed(Reason.NOT_FOUND, f"{what} is not there ({code or 'HTTP 404'}){hint}")
        if status in (401, 403):
            return FetchFailed(
                Reason.GATED, f"{what} may not be read (HTTP {status}): its Secret needs an HF_TOKEN that may"
            )
        return FetchFailed(Reason.INVALID, f"{what}: the hub answers HTTP {status} to {file.path}")


@dataclass(frozen=True, slots=True)
class DirectoryReader:
    """A directory that is mounted: a shared filesystem, or another volume."""

    directory: Path

    def read(self, file: File, start: int, end: int) -> Iterator[bytes]:
        """See Reader."""
        path = self.directory / file.path
        try:
            with path.open("rb", buffering=0) as opened:
                size = os.fstat(opened.fileno()).st_size
                if size != file.size_bytes:
                    what = f"{path} is {size} bytes, the manifest says {file.size_bytes}"
                    raise FetchFailed(Reason.SIZE_MISMATCH, what)
                while start < end:
                    block = os.pread(opened.fileno(), min(BLOCK_BYTES, end - start), start)
                    if not block:
                        raise Interrupted(f"{path} ended at byte {start}")
                    start += len(block)
                    yield block
        except (FileNotFoundError, NotADirectoryError) as missing:
            what = f"{path} is not there: check the source, and what is mounted"
            raise FetchFailed(Reason.NOT_FOUND, what) from missing
        except PermissionError as forbidden:
            raise FetchFailed(Reason.FORBIDDEN, f"{path} may not be read by user {os.getuid()}") from forbidden
        except OSError as broken:
            raise Interrupted(f"{path}: {broken.strerror}") from broken
