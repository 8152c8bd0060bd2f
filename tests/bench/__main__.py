"""Run benchmarks and write down what they say: ``python -m tests.bench [section …]``; without a section, all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tests.bench import (
    capacity,
    catchup,
    hotpath,
    keys,
    ledger,
    overload,
    pressure,
    profile,
    report,
    rest,
    revocation,
    router,
    scale,
    store,
    twin_nodes,
)
from tests.bench.room import a_room

SECTIONS: Final[Mapping[str, Callable[[], report.Section]]] = MappingProxyType(
    {
        "store": store.measure,
        "keys": keys.measure,
        "revocation": revocation.measure,
        "ledger": ledger.measure,
        "overload": overload.measure,
        "pressure": pressure.measure,
        "router": router.measure,
        "profile": profile.measure,
        "hotpath": hotpath.measure,
        "catchup": catchup.measure,
        "scale": scale.measure,
        "capacity": capacity.measure,
        "twin_nodes": twin_nodes.measure,
        "rest": rest.measure,
    }
)


def main(names: Sequence[str]) -> int:
    """Measure the sections named; the exit code of the process."""
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        print(f"no section {', '.join(unknown)}; there are: {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    for name in names or SECTIONS:
        try:
            with a_room():
                section = SECTIONS[name]()
        except report.Absent as missing:
            print(f"{name} is left out: {missing}", file=sys.stderr)
            continue
        report.write(name, section)
        print(section.markdown(f"python -m tests.bench {name}"), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
