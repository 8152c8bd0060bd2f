"""`python -m tests.contract.record <release>`: what the services of this build tell, for later builds to read.

Makes `tests/contract/recorded/<release>/<story>.jsonl`: every message that was stored on the bus, in order, one a
line, with its headers and its body. A recording is never edited: what is there stays, and only stories that have none
are recorded. A release makes its own folder beside the others.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.common.bus.port import Message
from libs.common.bus.streams import DLQ
from tests.contract.stories import STORIES, Stage

RECORDED: Final = Path(__file__).parent / "recorded"


@dataclass(frozen=True, slots=True)
class Line:
    """A message as it was stored."""

    stream: str
    subject: str
    headers: dict[str, str]
    body: str


def write(path: Path, messages: Iterable[Message]) -> int:
    """Write a recording; how many lines it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"stream": each.stream, "subject": each.subject, "headers": dict(each.headers), "body": each.body.decode()}
        for each in messages
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return len(lines)


def read(path: Path) -> Iterator[Message]:
    """The messages of a recording, in the order in which they were stored."""
    for text in path.read_text().splitlines():
        line = Line(**json.loads(text))
        yield Message(line.headers["ce-id"], line.stream, line.subject, line.body.encode(), line.headers)


def in_order(stage: Stage) -> Iterator[Message]:
    """Everything that was stored in a story, each stream in its own order, and those by the time of telling."""
    streams = stage.sim.broker.streams
    assert not streams[DLQ], "nothing is parked in a story"
    return heapq.merge(*streams.values(), key=lambda each: each.headers["ce-time"])


def main() -> int:
    """Record every story that has no recording under the release that was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", help="what this build will be called, such as 0.2.0")
    release = parser.parse_args().release
    for name, story in STORIES.items():
        path = RECORDED / release / f"{name}.jsonl"
        if not path.exists():
            print(f"{path}: {write(path, in_order(story()))} messages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
