"""`python -m tests.sim --seed n`: live through one seed again, and say what happened."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.looks import Violation
from tests.sim.world import Simulation


def main() -> int:
    """Run the seeds asked for; 1 at the first that breaks a promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1, help="how many seeds, from --seed on")
    arguments = parser.parse_args()
    began = time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        simulation = Simulation(seed)
        try:
            trace = simulation.run()
        except Violation as broken:
            print(broken)
            return 1
        if arguments.count == 1:
            print(f"seed {seed}: faults {simulation.faults_drawn}")
            print(f"{simulation.crashes} crashes, {len(simulation.traffic.truth)} requests, trace {trace}")
    spent_s = time.perf_counter() - began
    print(f"{arguments.count} seeds without a broken promise, {arguments.count / spent_s:.1f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
