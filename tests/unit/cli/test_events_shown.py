"""What `millrace events tail` prints: also of a message that is no event, which is what dead letters are for."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from libs.cli.events import document, line, print_line
from libs.common.bus.dead_letter import dead_letter
from libs.common.bus.port import Message
from libs.common.bus.tail import Stored


def stored(body: bytes) -> Stored:
    message = Message("m-1", "MR_EVT", "mr.v1.evt.x", body, {"ce-type": "a.b.v1", "ce-subject": "ep-a"})
    return Stored(7, dead_letter(message, consumer="metering-evt", reason="invalid: nonsense", attempt=1))


@pytest.mark.parametrize("body", [b"\xff\xfe{", b"{", b"", b"[" * 100_000], ids=["bytes", "half", "none", "deep"])
def test_a_dead_letter_is_shown_with_its_reason_whatever_is_in_it(body: bytes) -> None:
    event = document(stored(body))

    assert (event["stream_sequence"], event["type"], event["subject"]) == (7, "a.b.v1", "ep-a")
    assert (event["dead_reason"], event["dead_consumer"]) == ("invalid: nonsense", "metering-evt")
    assert json.loads(json.dumps(event)) == event
    assert "dead_reason=invalid: nonsense" in line(event).plain


def test_what_a_terminal_would_obey_is_shown_as_json() -> None:
    event = document(stored(json.dumps({"word": "\x1b[2J\x1b]0;owned\x07", "plain": "é ok"}).encode()))

    shown = line({**event, "subject": "ep\x1b[2J"}).plain

    assert "\x1b" not in shown
    assert "plain=é ok" in shown


def test_a_file_gets_all_of_a_long_line_and_a_terminal_its_beginning() -> None:
    text = line(document(stored(json.dumps({"word": "x" * 500}).encode())))
    seen, file = io.StringIO(), io.StringIO()

    print_line(text, Console(file=seen, force_terminal=True, color_system=None, width=80))
    print_line(text, Console(file=file, width=80))

    assert file.getvalue() == text.plain + "\n"
    assert len(seen.getvalue().rstrip()) <= 80
