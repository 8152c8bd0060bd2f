"""`python -m libs.common.schemas [--check] [--against REF]`: everything about the bus, from the models."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from libs.common.schemas.asyncapi import asyncapi_file
from libs.common.schemas.breaks import Use, breaks
from libs.common.schemas.bucket_files import bucket_examples, bucket_schemas
from libs.common.schemas.command_files import command_examples, command_schemas
from libs.common.schemas.event_files import event_examples, event_schemas
from libs.common.schemas.gate import Gate, Part
from libs.common.schemas.topics import topics_file

FIXED = ("x-cloudevents-type", "x-subject")  # A message of another type or on another subject reaches nobody.


def promises() -> dict[str, str]:
    """The schemas, by their paths below `schemas/`."""
    return {**event_schemas(), **command_schemas(), **bucket_schemas()}


def rest() -> dict[str, str]:
    """What follows from them: documents, lists, examples."""
    return {
        "topics.yaml": topics_file(),
        "asyncapi/asyncapi.yaml": asyncapi_file(),
        **event_examples(),
        **command_examples(),
        **bucket_examples(),
    }


def broken(published: str, new: str) -> Iterator[str]:
    """What of an event's published schema a new one breaks."""
    old, now = json.loads(published), json.loads(new)
    yield from (
        f"its {each} moved: {old.get(each)}, now {now.get(each)}" for each in FIXED if old.get(each) != now.get(each)
    )
    is_command = "x-answered-by" in old
    yield from breaks(old, now, use=Use.SENT if is_command else Use.KEPT)


def part() -> Part:
    """What this writer owns."""
    return Part(promises(), ("events", "commands", "buckets", "asyncapi"), broken, rest)


def main() -> int:
    """Write the files, or with ``--check`` say how they differ; 1 if they do, or if anybody would be let down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files are not true")
    parser.add_argument("--against", default="HEAD", help="the commit whose published files must not be broken")
    given = parser.parse_args()
    return Gate(against=given.against).run(part(), check=given.check)


if __name__ == "__main__":
    raise SystemExit(main())
