"""Writes the contract as files that any language can read: `python -m libs.common.schemas [--check]`.

Models are the source, files are the contract. A published version never changes but by an optional field: its hash is
in `schemas/published.sha256`, and `--check` names the field that an edit broke.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from libs.common.bus.streams import STREAMS, stream_of, subject_filter
from libs.common.events.catalog import EVENTS
from libs.common.events.envelope import type_of
from libs.common.events.event import Event
from libs.common.events.examples import EXAMPLES, WHEN_MS

ROOT: Final = Path(__file__).parents[2] / "schemas"
SHAPE: Final = ("type", "anyOf", "enum", "format", "$ref", "items", "const")  # What a reader of a field relies on.


def files() -> dict[str, str]:
    """Every file of the contract but the hashes, by its path below `schemas/`."""
    found = {"topics.yaml": _topics()}
    for kind in EVENTS.values():
        folder = f"events/{kind.owner}/{kind.kind}"
        found[f"{folder}/v{kind.version}.json"] = _json(_schema(kind))
        found[f"{folder}/v{kind.version}.example.json"] = _json(_example(kind))
    return found


def breaks(published: dict[str, Any], new: dict[str, Any], at: str = "") -> Iterator[str]:
    """What of a published schema a new one breaks, each with the field's path; nothing if only optional fields came."""
    for name, old in published.get("$defs", {}).items():
        yield from breaks(old, new.get("$defs", {}).get(name, {}), f"{at}{name}.")
    for name, old in published.get("properties", {}).items():
        now = new.get("properties", {}).get(name)
        if now is None:
            yield f"{at}{name} is gone"
        elif {each: old.get(each) for each in SHAPE} != {each: now.get(each) for each in SHAPE}:
            yield f"{at}{name} has another type"
    yield from (f"{at}{each} is newly required" for each in sorted(_required(new) - _required(published)))
    if set(published.get("enum", ())) - set(new.get("enum", ())):
        yield f"{at.rstrip('.')} lost a value"


def _required(schema: dict[str, Any]) -> set[str]:
    return set(schema.get("required", ()))


def _schema(kind: type[Event]) -> dict[str, Any]:
    schema = kind.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"schemas/events/{kind.owner}/{kind.kind}/v{kind.version}.json",
        "x-cloudevents-type": type_of(kind),
        "x-subject": subject_filter(kind),
        "x-fact": {"fact": str(kind.fact), "holds": kind.holds} if kind.fact else None,
        **schema,
    }


def _example(kind: type[Event]) -> dict[str, Any]:
    data = next(each for each in EXAMPLES if type(each) is kind)
    return {
        "specversion": "1.0",
        "id": "0b6d5c2e-6a53-5d53-8a0e-0a3c7f6f2f11",
        "type": type_of(kind),
        "source": f"/{kind.owner}",
        "subject": getattr(data, "instance", "ep-7f3akq2xpd"),
        "time": "2027-01-15T08:00:00.000Z",
        "generation": 1,
        "sequence": WHEN_MS % 7 + 1,
        "data": data.model_dump(mode="json"),
    }


def _topics() -> str:
    ages = {each.name: each.max_age_s for each in STREAMS}
    topics = [
        {
            "type": name,
            "meaning": " ".join((kind.__doc__ or "").split()),
            "owner": str(kind.owner),
            "consumers": sorted(map(str, kind.consumers)),
            "stream": stream_of(kind),
            "subject": subject_filter(kind),
            "retention_s": ages[stream_of(kind)],
        }
        for name, kind in EVENTS.items()
    ]
    return yaml.safe_dump(topics, sort_keys=False, width=120)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _hashes(contents: dict[str, str]) -> str:
    schemas = {path: text for path, text in contents.items() if path.endswith(".json") and ".example." not in path}
    return "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {path}\n" for path, text in sorted(schemas.items()))


def _complaints(contents: dict[str, str]) -> list[str]:
    found = []
    for path, text in contents.items():
        published = ROOT / path
        if not published.exists():
            found.append(f"schemas/{path} is missing: run `make schemas`")
        elif published.read_text() != text:
            broken = list(breaks(json.loads(published.read_text()), json.loads(text))) if _is_schema(path) else []
            found += [f"schemas/{path} is published and {each}: make a v2 beside it" for each in broken]
            if not broken:
                found.append(f"schemas/{path} is stale: run `make schemas` and read the diff")
    known = set(contents) | {"published.sha256"}
    for file in sorted(ROOT.rglob("*")):
        if file.is_file() and str(file.relative_to(ROOT)) not in known:
            found.append(f"schemas/{file.relative_to(ROOT)} has no model any more: a published version never goes")
    return found


def _is_schema(path: str) -> bool:
    return path.startswith("events/") and ".example." not in path


def main() -> int:
    """Write the files, or with ``--check`` say how they differ; 1 if they do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files are not true")
    check = parser.parse_args().check
    contents = files()
    complaints = [each for each in _complaints(contents) if check or "is published and" in each]
    for complaint in complaints:
        sys.stderr.write(complaint + "\n")
    if check or complaints:
        return 1 if complaints else 0
    contents["published.sha256"] = _hashes(contents)
    for path, text in contents.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
    sys.stdout.write(f"{len(contents)} files in schemas/\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
