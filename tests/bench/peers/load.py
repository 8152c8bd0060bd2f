"""The engine and the load generator: two small C programs, built when they are first needed."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.peers.processes import a_process, pin
from tests.bench.peers.proxies import KEY, MODEL, OTHER_CPU
from tests.support.ports import free_port

HERE: Final = Path(__file__).parent
COMPILER: Final = ("gcc", "-O2", "-Wall", "-D_GNU_SOURCE")
_elsewhere: Final = partial(pin, OTHER_CPU)
PROMPT: Final = "The quick brown fox jumps over the lazy dog. "


@dataclass(frozen=True, slots=True)
class Seen:
    """What the load generator saw."""

    answered: int
    refused: int
    events: int
    p50_us: float
    p90_us: float
    first_us: float
    asked: int = 0
    refused_p50_us: float = 0.0
    refused_p99_us: float = 0.0
    p99_us: float = 0.0


def built(name: str, into: Path) -> str:
    """The program, compiled. Raises FileNotFoundError without a compiler."""
    program = into / name
    subprocess.run([*COMPILER, "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return str(program)


@contextlib.contextmanager
def engine(state: Path) -> Iterator[int]:
    """A running engine; its port."""
    port = free_port()
    with a_process([built("engine", state), str(port)], state / "engine.log", port=port, cpu=OTHER_CPU):
        yield port


def request(*, body_bytes: int, stream: int = 0, period_ms: int = 0, first_ms: int = 0, usage: bool = False) -> bytes:
    """A chat request of about that size; ``stream``: so many events, the first in ``first_ms``, then by the period."""
    text = (PROMPT * (body_bytes // len(PROMPT) + 1))[: body_bytes - 120]
    asked: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 256}
    if stream:
        asked |= {"stream": True, "max_tokens": stream, "seed": period_ms}
        if first_ms:
            asked["top_k"] = first_ms
    if usage:
        asked["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    body = json.dumps(asked, separators=(",", ":")).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %s\r\n"
        b"user-agent: OpenAI/Python 1.99.0\r\naccept: application/json\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s"
    ) % (KEY.plaintext.encode(), len(body), body)


def load(program: str, port: int, asked: Path, *, connections: int, seconds: float, per_s: float = 0.0) -> Seen:
    """Keep so many connections busy for a while; or send ``per_s``, answered or not, as long as one is free."""
    command = [program, str(port), str(connections), str(seconds), str(asked), *([str(per_s)] if per_s else [])]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, preexec_fn=_elsewhere).stdout
    return Seen(**json.loads(said))


def steady(
    program: str,
    port: int,
    asked: Path,
    *,
    connections: int,
    seconds: float,
    warm_s: float,
    meter: Callable[[], float] = float,
    per_s: float = 0.0,
) -> tuple[float, Seen]:
    """The same, and what ``meter`` rose by; both from when it is warm until it hangs up."""
    command = [program, str(port), str(connections), str(seconds), str(asked), str(per_s), str(warm_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=_elsewhere) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"warm\n", "the load generator did not begin"
        before = meter()
        said = process.stdout.readline()
        spent = meter() - before
        process.communicate()
    return spent, Seen(**json.loads(said))
