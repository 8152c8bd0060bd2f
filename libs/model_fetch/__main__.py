"""``python -m libs.model_fetch``: the init container. Says how far it is on its output, and at its end why it ended."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, assert_never

from libs.common.clock import SystemClock
from libs.common.errors import Invalid
from libs.model_fetch.cache import Cache
from libs.model_fetch.eviction import Policy
from libs.model_fetch.fetching import PAUSE_S, SPAN_BYTES, WORKERS, Effort, Fetch
from libs.model_fetch.manifest import Manifest, parse
from libs.model_fetch.progress import Progress
from libs.model_fetch.readers import HUB, DirectoryReader, HubReader, Reader, S3Reader
from libs.model_fetch.reasons import EXIT_CODES, FetchFailed, Reason
from libs.model_fetch.signing import Credentials
from libs.model_fetch.sources import Scheme, Source, parse_source
from libs.model_fetch.volume import Volume
from libs.model_fetch.web import Web

MANIFEST: Final = "MILLRACE_MODEL_MANIFEST"  # The text of the manifest.
TOLD: Final = "/dev/termination-log"
IDLE_S: Final = 30.0  # A source that sends nothing for so long is asked again.
MOUNTED: Final = Path("/source")  # Where the volume of a pvc:// source is.
TERMINATED: Final = 143


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Fetch; the exit code."""
    args = _arguments(argv)
    try:
        told = _fetch(args, env)
    except FetchFailed as failed:
        _say(json.dumps({"state": "failed", "reason": failed.reason, "message": str(failed)}))
        _tell(args.told, str(failed))
        return EXIT_CODES[failed.reason]
    _say(told)
    _tell(args.told, told)
    return 0


def _fetch(args: argparse.Namespace, env: Mapping[str, str]) -> str:
    try:
        source = parse_source(args.source)
        if source.scheme is Scheme.BAKED:
            return json.dumps(
                {
                    "state": "done",
                    "cache": "baked",
                    "bytes_done": args.size_bytes,
                    "bytes_total": args.size_bytes,
                    "bytes_fetched": 0,
                }
            )
        manifest = _manifest(args, env)
    except Invalid as wrong:
        raise FetchFailed(Reason.INVALID, str(wrong)) from wrong
    volume = Volume(args.into, manifest)
    effort = Effort(span_bytes=args.span_bytes, workers=args.workers, pause_s=args.pause_s)

    def say(line: str) -> None:
        _say(line)
        if '"waiting"' not in line:
            volume.say(line)

    args.into.mkdir(parents=True, exist_ok=True)
    with Progress(manifest.size_bytes, say) as progress:
        found = Fetch(
            volume,
            _reader(source, args, env),
            progress,
            effort,
            cache=Cache(args.into, SystemClock()),
            policy=Policy(args.capacity_bytes, frozenset(args.keep)) if args.capacity_bytes else None,
            held=args.held,
        ).run()
    progress.state = "done"
    return progress.line(**found)


def _manifest(args: argparse.Namespace, env: Mapping[str, str]) -> Manifest:
    manifest = parse(env.get(MANIFEST, ""))
    if manifest.digest != args.digest:
        what = f"the manifest is {manifest.digest}, the endpoint is pinned to {args.digest}"
        raise FetchFailed(Reason.DIGEST_MISMATCH, what)
    if manifest.size_bytes != args.size_bytes:
        what = f"the manifest's files are {manifest.size_bytes} bytes, the endpoint expects {args.size_bytes}"
        raise FetchFailed(Reason.SIZE_MISMATCH, what)
    return manifest


def _reader(source: Source, args: argparse.Namespace, env: Mapping[str, str]) -> Reader:
    web = Web(args.idle_s)
    match source.scheme:
        case Scheme.S3:
            endpoint = args.endpoint or f"https://s3.{args.region}.amazonaws.com"
            return S3Reader(source, endpoint, args.region, _credentials(env), web, SystemClock())
        case Scheme.HUB:
            return HubReader(source, endpoint=args.endpoint or HUB, token=env.get("HF_TOKEN", ""), web=web)
        case Scheme.DIRECTORY:
            return DirectoryReader(Path(source.path))
        case Scheme.CLAIM:
            return DirectoryReader(args.mounted / source.path)
        case Scheme.BAKED:
            raise AssertionError("there is nothing to read")
    assert_never(source.scheme)


def _credentials(env: Mapping[str, str]) -> Credentials | None:
    key_id, secret = env.get("AWS_ACCESS_KEY_ID", ""), env.get("AWS_SECRET_ACCESS_KEY", "")
    if bool(key_id) != bool(secret):
        raise FetchFailed(
            Reason.INVALID, "the Secret has one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: give both"
        )
    return Credentials(key_id, secret, env.get("AWS_SESSION_TOKEN", "")) if key_id else None


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m libs.model_fetch", description=__doc__)
    parser.add_argument("--model", required=True, help="its id, for those who read the output")
    parser.add_argument("--digest", required=True, help="sha256 of the manifest")
    parser.add_argument("--size-bytes", required=True, type=int)
    parser.add_argument("--source", required=True, help="where it comes from, a URI")
    parser.add_argument("--endpoint", default="", help="of the S3 service or the hub, if not the usual one")
    parser.add_argument("--region", default="us-east-1", help="of the S3 service")
    parser.add_argument("--into", type=Path, default=Path("/models"), help="the volume")
    parser.add_argument("--mounted", type=Path, default=MOUNTED, help="where the volume of a pvc:// source is")
    parser.add_argument("--capacity-bytes", type=int, default=0, help="what models may take of it; 0: all of it")
    parser.add_argument("--keep", action="append", default=[], help="the digest of a model that is never evicted")
    parser.add_argument("--held", type=Path, help="what the pod's model-hold writes; none: nothing holds the model")
    parser.add_argument("--told", type=Path, default=Path(TOLD), help="the file of the termination message")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--span-bytes", type=int, default=SPAN_BYTES)
    parser.add_argument("--idle-s", type=float, default=IDLE_S)
    parser.add_argument("--pause-s", type=float, default=PAUSE_S)
    return parser.parse_args(argv)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _tell(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as wrong:
        _say(f"can't write {path}: {wrong.strerror}")


if __name__ == "__main__":
    # The first process of a container is not ended by a signal that it did not ask for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    sys.exit(main(sys.argv[1:], os.environ))
