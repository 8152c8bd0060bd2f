"""``python -m tests.integration.kube.building``: build the program that is Kubernetes, once for each text of it.

The program goes into a cache outside of the tree, named by a hash of its sources and of the Go that compiles them.
"""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
# No inlining and nothing for debuggers: of a program that runs for a minute, compiling is what costs.
QUICKLY: Final = ("-gcflags=all=-l -dwarf=false", "-ldflags=-s -w")
BUILD: Final = ("go", "build", "-trimpath", "-buildvcs=false", *QUICKLY)
GOGC: Final = "200"  # Of the compiler, most of whose garbage dies with it. With 400 linking takes 2 GiB.
HASH_CHARS: Final = 16


def program() -> Path:
    """Where the program is once it is built. Raises FileNotFoundError if there is no Go here."""
    version = subprocess.run(["go", "env", "GOVERSION"], cwd=HERE, capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(f"{version} {BUILD}".encode())
    for path in (*sorted(HERE.glob("*.go")), HERE / "go.mod", HERE / "go.sum"):
        digest.update(path.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "millrace" / f"kube-{digest.hexdigest()[:HASH_CHARS]}" / "kube"


def build() -> Path:
    """Build it if it is not there yet; others that build at the same time do no harm."""
    made = program()
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    fresh = made.with_name(f"kube.{os.getpid()}")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOGC": GOGC}
    subprocess.run([*BUILD, "-o", str(fresh), "."], cwd=HERE, env=environment, check=True)
    fresh.rename(made)
    return made


def main() -> int:
    """Say where it is, and what building it cost."""
    print(build())
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"built in {spent.ru_utime + spent.ru_stime:.0f} CPU seconds", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
