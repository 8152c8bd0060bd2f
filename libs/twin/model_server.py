"""A model server as a process: `python -m libs.twin.model_server --model <id> --port 8000`.

Takes vLLM's main flags; those that it does not know it ignores, so that a command line for vLLM runs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import uvicorn

from libs.common.clock import SystemClock
from libs.twin.model.app import Engine, EngineOptions
from libs.twin.model.ngram import NgramModel

SMALL_ORDER = 3
LARGE_ORDER = 4
EXIT_CANNOT_SERVE = 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="model-server", allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name", nargs="+", default=None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--load-ms", type=int, default=0, help="how long /health says 503 after the start")
    parser.add_argument("--tokens-per-second", type=float, default=60.0, help="per request; 0 is as fast as possible")
    parser.add_argument("--max-model-len", type=int, default=8192)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--fails-after", type=int, default=None, help="answer so many requests, and 500 to all others")
    options, _ = parser.parse_known_args(argv)
    return options


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop: open streams are finished first."""
    options = parse(argv)
    names = tuple(options.served_model_name or [options.model])
    order = LARGE_ORDER if options.model.endswith("-large") else SMALL_ORDER
    engine = Engine(
        NgramModel.trained(order=order),
        EngineOptions(
            models=names,
            tokens_per_second=options.tokens_per_second,
            load_ms=options.load_ms,
            context_tokens=options.max_model_len,
            requests_max=options.max_num_seqs,
            fails_after=options.fails_after,
        ),
        SystemClock(),
    )
    config = uvicorn.Config(
        engine, host=options.host, port=options.port, log_config=None, access_log=False, lifespan="off", backlog=1024
    )
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else EXIT_CANNOT_SERVE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
