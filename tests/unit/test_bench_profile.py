"""What the benchmark makes of `perf`'s samples."""

from __future__ import annotations

from tests.bench.profile import BESIDE, BYTECODES, OTHER, PARTS, part_of, shares

KERNEL, UVLOOP, CPYTHON, MSGSPEC, LIBC, NGINX = PARTS.values()


def test_a_sample_belongs_to_the_library_that_it_is_in() -> None:
    for library, part in {
        "[kernel.kallsyms]": KERNEL,
        "[vdso]": KERNEL,
        "/venv/lib/python3.11/site-packages/uvloop/loop.cpython-311-x86_64-linux-gnu.so": UVLOOP,
        "/venv/lib/python3.11/site-packages/msgspec/_core.cpython-311-x86_64-linux-gnu.so": MSGSPEC,
        "/venv/lib/python3.11/site-packages/httptools/parser/parser.cpython-311-x86_64-linux-gnu.so": OTHER,
        "/opt/python/lib/libpython3.11.so.1.0": CPYTHON,
        "/usr/bin/python3.11": CPYTHON,
        "/usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
        "/usr/sbin/nginx": NGINX,
    }.items():
        assert part_of(library, "f", is_main=True) == part, library


def test_the_loop_over_bytecodes_is_told_from_the_rest_of_the_interpreter() -> None:
    assert part_of("/usr/bin/python3.11", "_PyEval_EvalFrameDefault.cold", is_main=True) == BYTECODES


def test_what_another_thread_does_is_beside_the_one_that_serves() -> None:
    lines = [
        "26219/26219      7f4dfc5af861 _PyObject_Malloc (/opt/lib/libpython3.11.so.1.0)",
        "26219/26219  ffffffff816e6140 touch_atime ([kernel.kallsyms])",
        "26219/26229  ffffffff816e6140 touch_atime ([kernel.kallsyms])",
        "26219/26229      7f4df96b3133 f (/venv/sqlalchemy/sql/_cache_key_cy.cpython-311-x86_64-linux-gnu.so)",
        "no sample",
    ]
    assert shares(iter(lines)) == {CPYTHON: 0.25, KERNEL: 0.25, BESIDE: 0.5}
