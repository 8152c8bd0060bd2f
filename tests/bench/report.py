"""What a benchmark says, and where it is written down."""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks.md"
HEAD: Final = """# Benchmarks

Ratios, not records: each section measures its rows in turns within one run, so a busy machine slows all of them.
`make bench` measures everything again and writes this page; `python -m tests.bench <section>` only one.
"""
TURNS: Final = 5


class Absent(Exception):
    """A section can't be measured here; the message says what is missing, and the page keeps what it has."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table with what one must know to read it. The first row is what the others are compared to."""

    title: str
    question: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self, command: str) -> str:
        """The section as it stands on the page."""
        lines = [f"## {self.title}", "", self.question, ""]
        lines += [_row(self.columns), _row(("---",) + ("---:",) * (len(self.columns) - 1))]
        lines += [_row(each) for each in self.rows]
        lines += ["", *(f"- {each}" for each in self.notes), f"- `{command}` on {machine()}."]
        return "\n".join(lines)


def in_turns(works: Mapping[str, Callable[[], object]], *, turn_s: float) -> dict[str, float]:
    """How often a second each work can be done: the median of several turns, each work once in every turn."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(TURNS):
        for name, work in works.items():
            rates[name].append(_rate(work, turn_s))
    return {name: statistics.median(each) for name, each in rates.items()}


def machine() -> str:
    """The machine, as far as it matters for figures."""
    cpu = re.search(r"model name\s*: (.+)", _read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    parts = [f"{os.cpu_count()} cores of {cpu.group(1) if cpu else platform.machine()}"]
    parts += [f"{int(memory.group(1)) // 2**20} GiB"] if memory else []
    parts += [f"{platform.system()} {platform.release().split('-')[0]}", f"Python {platform.python_version()}"]
    return ", ".join([*parts, f"load {os.getloadavg()[0]:.1f} at the end"])


def write(name: str, section: Section) -> None:
    """Put the section on the page in the place of its last version, or at the end."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    block = f"{begin}\n{section.markdown(f'python -m tests.bench {name}')}\n{end}"
    page = PAGE.read_text() if PAGE.exists() else HEAD
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not known.search(page):
        page = f"{page.rstrip()}\n\n{begin}{end}\n"
    PAGE.write_text(known.sub(lambda _old: block, page))


def say(what: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")
    sys.stderr.flush()


def _rate(work: Callable[[], object], turn_s: float) -> float:
    done, began_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < turn_s:
        work()
        done += 1
    return done / took_s


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""
