"""`python -m libs.twin --port 8600`: the simulated cloud as a process. Everything it started ends with it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from libs.common.clock import SystemClock
from libs.common.ids import SystemEntropy
from libs.twin.engines import SubprocessEngines
from libs.twin.options import TwinOptions
from libs.twin.server import serve
from libs.twin.world import World

EXIT_USAGE = 2
SEED_BYTES = 6  # A process id would come again, in a container as the same one each time.


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m libs.twin", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--access-key-file", type=Path, help="keys that are let in, one a line")
    parser.add_argument("--options", type=Path, help="JSON file with any of TwinOptions")
    parser.add_argument("--time-scale", type=float, help="1 is real time, 0.01 a hundred times faster")
    parser.add_argument("--tokens-per-second", type=float, help="of the model servers; 0 is as fast as possible")
    parser.add_argument("--seed", type=int, help="varies addresses, uids and made-up names; default: by chance")
    parser.add_argument("--log-dir", type=Path, help="where the engines' output goes; default: nowhere")
    parser.add_argument("--volumes-dir", type=Path, help="where pods keep volumes, and models are fetched to")
    return parser.parse_args(argv)


def options_of(args: argparse.Namespace) -> TwinOptions:
    """The options: the file's, with the command line's on top. Raises ValidationError or OSError."""
    values: dict[str, object] = {"seed": int.from_bytes(SystemEntropy().token_bytes(SEED_BYTES))}
    if args.options is not None:
        values |= json.loads(args.options.read_text())
    if args.access_key_file is not None:
        values["access_keys"] = tuple(args.access_key_file.read_text().split())
    for name in ("time_scale", "tokens_per_second", "seed"):
        if getattr(args, name) is not None:
            values[name] = getattr(args, name)
    return TwinOptions.model_validate(values)


async def run(args: argparse.Namespace, options: TwinOptions) -> None:
    """Serve until SIGTERM or SIGINT."""
    clock = SystemClock()
    world = World(clock, options, SubprocessEngines(clock, args.log_dir, args.volumes_dir))
    serving = asyncio.create_task(serve(world, host=args.host, port=args.port))
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def main(argv: Sequence[str]) -> int:
    """Run the twin; a mistake in its settings, or a taken port, ends it with one line."""
    args = parse(argv)
    try:
        asyncio.run(run(args, options_of(args)))
    except (ValidationError, ValueError, OSError) as wrong:
        sys.stderr.write(f"twin: cannot start on {args.host}:{args.port}: {wrong}\n")
        return EXIT_USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
