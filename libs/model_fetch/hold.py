"""``python -m libs.model_fetch.hold``: the sidecar because of which a model is not evicted while its pod lives."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from libs.model_fetch.cache import hold


def main(argv: Sequence[str]) -> int:
    """Hold the model until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m libs.model_fetch.hold", description=__doc__)
    parser.add_argument("--digest", required=True)
    parser.add_argument("--into", type=Path, default=Path("/models"), help="the volume")
    parser.add_argument("--told", type=Path, required=True, help="the file that the pod's fetch waits for")
    args = parser.parse_args(argv)
    hold(args.into, args.digest)
    args.told.touch()
    while True:
        signal.pause()


if __name__ == "__main__":
    # The first process of a container is not ended by a signal that it did not ask for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sys.exit(main(sys.argv[1:]))
