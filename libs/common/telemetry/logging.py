"""Logs as JSON lines: one event a line, one verb, ids as fields.

Only the fields named here are written, so that a prompt or a key can't slip into a log by being passed along.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

FIELDS: Final = frozenset(
    {
        "action", "answer", "attempt", "claim", "code", "consumer", "count", "delay_s", "endpoint_id", "event_id",
        "event_type", "generation", "key_id", "method", "node", "operation_id", "path", "pool", "port", "reason",
        "request_id", "service", "stage", "status", "stream", "tenant_id", "trace_id", "url",
    }
)  # fmt: skip


def fields(**given: object) -> dict[str, object]:
    """The ``extra`` of a log line. An unknown name is a mistake, seen at once rather than in production."""
    unknown = given.keys() - FIELDS
    assert not unknown, f"log fields {sorted(unknown)} are not in telemetry.logging.FIELDS"
    return {"fields": given}


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the service's name. A traceback keeps its places, not its values."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = _places(record.exc_info[2])
        return json.dumps(line, default=str)


def _places(traceback: TracebackType | None) -> list[str]:
    places: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return places


def configure(service: str, *, level: str = "INFO") -> None:
    """Send this process's logs to standard error as JSON lines; libraries only from WARNING up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("services", "libs"):
        logging.getLogger(ours).setLevel(level)
