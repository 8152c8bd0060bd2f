"""A ClickHouse in a process of its own: a statement a line of JSON in, its answer a line of JSON out."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Answer until the input ends."""
    session = importlib.import_module("chdb.session").Session()
    for line in sys.stdin:
        answer = str(session.query(json.loads(line), "JSONEachRow"))
        print(json.dumps([json.loads(each) for each in answer.splitlines() if each.strip()]), flush=True)


if __name__ == "__main__":
    main()
