"""``python -m tests.capacity --endpoints 1000 --seed 1``: one conservation run, and what it came to."""

from __future__ import annotations

import argparse
import logging
import time
from random import Random

from tests.capacity import accounts
from tests.capacity.checkers import Checker, at_rest, heard
from tests.capacity.run import Run


def main() -> None:
    """Play, check, and print the accounts."""
    parser = argparse.ArgumentParser(prog="python -m tests.capacity", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # Each orphan is one, and here they are planted.
    run, began_s = Run(args.seed, args.endpoints), time.process_time()
    run.play(Checker())
    at_rest(run)
    entries = accounts.booked(heard(run), rng=Random(args.seed), end_ms=run.clock.now_ms())
    sums, held = accounts.gpu_ms(entries), accounts.told_ms(run.told)
    print(f"seed {args.seed}: {args.endpoints} endpoints, {len(held)} nodes held, {len(run.told)} events told,")
    print(
        f"{(run.clock.now_ms() - run.began_ms) // 1000} s of its time in {time.process_time() - began_s:.1f} s of ours"
    )
    print("trouble: " + ", ".join(f"{name} {count}" for name, count in sorted(run.trouble.tally.items())))
    for account, total_ms in sorted(sums.items()):
        print(f"{account:>12} {total_ms:>14,} GPU-ms")
    whole_ms = sum(gpus * (to_ms - from_ms) for _, gpus, from_ms, to_ms in held.values())
    print(f"{'sum':>12} {sum(sums.values()):>14,} GPU-ms; told to be held: {whole_ms:,}")


if __name__ == "__main__":
    main()
