"""Benchmarks: ratios, side by side in one run. ``python -m tests.bench [section …]`` writes `docs/benchmarks.md`.

To add a section: a module here with ``measure() -> Section``, named in `__main__.SECTIONS`. It runs its competitors in
turns (`report.in_turns`), so that whatever else the machine does hits all of them, and it ends within a minute.
"""
