"""What the command prints: units that people read, and nothing that breaks on what others said."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import pytest
import typer
from rich.console import Console
from rich.table import Table

from libs.cli import stages
from libs.cli.audit import listing
from libs.cli.events import line
from libs.cli.output import amount, card, duration, one_line_errors, table
from libs.cli.usage_tables import breakdown_table, receipt_table, usage_table
from libs.common.errors import Unavailable
from libs.common.events.capacity import CapacityWaiting
from tests.unit.cli.endpoints_shown import shown
from tests.unit.endpoint_api.given import PROGRESS

HOUR_MS = 3_600_000


def drawn(what: Table, *, width: int = 100) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(what)
    return [each.rstrip() for each in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("elapsed_ms", "said"),
    [
        (0, "0 s"),
        (840, "840 ms"),
        (3_249, "3.2 s"),
        (60_000, "1 min 0 s"),
        (250_999, "4 min 10 s"),
        (3 * HOUR_MS + 300_000, "3 h 5 min"),
        (2_000 * HOUR_MS, "2,000 h 0 min"),
    ],
)
def test_a_duration_is_said_in_the_units_of_its_size(elapsed_ms: int, said: str) -> None:
    assert duration(elapsed_ms) == said


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [(0, "0 B"), (1023, "1023 B"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), (1 << 40, "1 TiB")],
)
def test_an_amount_is_said_in_the_units_of_its_size(size_bytes: int, said: str) -> None:
    assert amount(size_bytes) == said


def test_what_looks_like_markup_is_printed_as_it_is() -> None:
    odd = "[/] [bold]x[/bold] [red"

    assert odd in " ".join(drawn(table(("name",), [(odd,)])))
    assert odd in " ".join(drawn(card([("name", odd)])))
    told = shown([PROGRESS[0], CapacityWaiting(reason="NoCapacity", message=odd)])
    assert odd in " ".join(drawn(stages.picture(told)))


def test_a_column_that_must_stay_whole_is_not_broken_where_others_are() -> None:
    rows = [("ep-2mn3cz6phf", "words " * 20, 1_234_567)]

    lines = drawn(table(("id", "said", "count"), rows, whole=("id",)), width=40)

    assert lines[1].startswith("ep-2mn3cz6phf  ")
    assert lines[1].endswith("1,234,567")
    assert len(lines) > 3


ENDPOINTS: Final = [("chat", "ep-2mn3cz6phf", "waiting_for_capacity", "0/1", "millrace/ngram-1-large", "l40s-tenant")]


@pytest.mark.parametrize("width", [70, 80, 120])
def test_where_there_is_little_room_long_words_are_broken_and_short_ones_are_not(width: int) -> None:
    names = ("name", "id", "stage", "ready", "model", "tier")

    lines = drawn(table(names, ENDPOINTS, whole=("id",)), width=width)

    assert lines[0].split() == ["NAME", "ID", "STAGE", "READY", "MODEL", "TIER"]
    assert {"chat", "ep-2mn3cz6phf", "0/1", "l40s-tenant"} <= set(lines[1].split())
    assert max(map(len, lines)) <= width


def test_a_name_of_a_column_is_broken_between_its_words_and_only_where_it_must() -> None:
    figures = table(("model", "queue p95", "ms/tok"), [("millrace/ngram-1-large", "120 ms", "20 ms")])

    assert drawn(figures, width=45)[0].split() == ["MODEL", "QUEUE", "P95", "MS/TOK"]
    narrow = drawn(figures, width=39)
    assert [each.split() for each in narrow[:2]] == [["QUEUE"], ["MODEL", "P95", "MS/TOK"]]


def test_who_is_waited_for_is_said_once() -> None:
    waiting = CapacityWaiting(reason="NodesPending", message="1 of 2 nodes have joined.")

    told = drawn(stages.picture(shown([PROGRESS[0], waiting])))
    known = drawn(stages.picture(shown([PROGRESS[0]])))

    assert told[1].endswith("  waiting for capacity-manager: 1 of 2 nodes have joined.")
    assert known[1].endswith("  capacity-manager is at work; next: capacity reserved")


def test_usage_has_one_line_for_each_endpoint_whatever_it_used() -> None:
    found = [
        {"endpoint_id": "ep-b", "meter": "gpu_ms", "account": "serving", "quantity": 61_000},
        {"endpoint_id": "ep-a", "meter": "requests", "account": "", "quantity": 1_200},
    ]

    usage = usage_table({"items": found})

    assert isinstance(usage, Table)
    assert [each.split() for each in drawn(usage, width=120)[1:]] == [
        ["ep-a", "1,200", "0", "0", "0", "s", "0", "s", "0", "s"],
        ["ep-b", "0", "0", "0", "0", "s", "1", "min", "1", "s", "0", "s"],
    ]
    assert usage_table({"items": []}) == "nothing was used"


def test_an_event_without_a_body_or_with_an_unknown_one_still_has_its_line() -> None:
    bare = {"stream_sequence": 7, "data": None}

    assert line(bare).plain.split() == ["7", "?"]
    assert line({**bare, "type": "t", "subject": "s", "data": {"a": 1, "b": None, "c": [2]}}).plain.split() == [
        "7", "t", "s", "a=1", "c=[2]",
    ]  # fmt: skip


def test_an_error_of_ours_is_one_line_whatever_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    @one_line_errors
    def command() -> None:
        raise Unavailable("first\nand then\n  more")

    with pytest.raises(typer.Exit) as ended:
        command()

    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "millrace: first and then more\n"


def test_a_file_that_can_not_be_written_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @one_line_errors
    def command() -> None:
        (tmp_path / "nowhere" / "page.html").write_text("")

    with pytest.raises(typer.Exit) as ended:
        command()

    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == f"millrace: {tmp_path / 'nowhere' / 'page.html'}: No such file or directory\n"


def test_what_can_not_be_sent_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    @one_line_errors
    def command() -> None:
        "half a character \udcff".encode()

    with pytest.raises(typer.Exit) as ended:
        command()

    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.startswith(r"millrace: '\udcff' can't be sent: text is UTF-8")


@pytest.mark.parametrize(("next_after", "says"), [(2, ["more: millrace audit list --after 2"]), (None, [])])
def test_a_page_of_the_audit_says_how_to_see_what_is_behind_it(next_after: int | None, says: list[str]) -> None:
    row = {"seq": 2, "at": "2026-11-28T00:00:00Z", "actor": "key:k", "action": "create_key", "target": "k2"}

    lines = drawn(listing({"items": [row], "next_after": next_after}))

    assert lines[1].split() == ["2", "2026-11-28", "00:00:00", "key:k", "create_key", "k2"]
    assert lines[2:] == says


def test_usage_by_dimensions_has_a_line_for_each_group_and_a_column_for_each_meter() -> None:
    found = [
        {"group": {"model": "m-b", "day": "2026-11-23T00:00:00Z"}, "meter": "gpu_ms", "quantity": 61_000},
        {"group": {"model": "m-a", "day": "2026-11-23T00:00:00Z"}, "meter": "requests", "quantity": 1_200},
    ]

    usage = breakdown_table({"items": found})

    assert isinstance(usage, Table)
    assert [each.split() for each in drawn(usage, width=120)] == [
        ["MODEL", "DAY", "REQUESTS", "GPU"],
        ["m-a", "2026-11-23T00:00:00Z", "1,200", "0", "s"],
        ["m-b", "2026-11-23T00:00:00Z", "0", "1", "min", "1", "s"],
    ]
    assert breakdown_table({"items": []}) == "nothing was used"


def test_usage_with_prices_has_its_cost_and_says_what_has_none() -> None:
    found = {
        "price_book": {"id": "book-1", "currency": "USD"},
        "items": [
            {"endpoint_id": "ep-a", "meter": "requests", "account": "", "quantity": 3, "cost_nano": None},
            {
                "endpoint_id": "ep-a",
                "meter": "completion_tokens",
                "account": "",
                "quantity": 9,
                "cost_nano": 59_000_000,
            },
            {"endpoint_id": "ep-a", "meter": "gpu_ms", "account": "serving", "quantity": 7, "cost_nano": 2_000_000_000},
        ],
    }

    costs = usage_table(found)
    assert isinstance(costs, Table)
    lines = drawn(costs, width=120)

    assert lines[0].split()[-1] == "COST"
    assert lines[1].endswith("2.06 USD")
    assert lines[2] == "cost by price book book-1; without a price there, so not in it: requests"


def test_a_receipt_names_the_lines_of_the_ledger() -> None:
    said = {"model": "m-1", "key_id": "k", "finish": "stop", "token_source": "engine_final"}
    line = {"at_ms": 1_795_824_000_000, "endpoint_id": "ep-a", "account": "", "data": said}
    found = {
        "request_id": "req-1",
        "items": [{**line, "id": "request/req-1/prompt_tokens", "meter": "prompt_tokens", "quantity": 12}],
        "cost_nano": 600,
        "price_book": {"id": "book-1", "currency": "USD"},
    }

    lines = drawn(receipt_table(found), width=120)

    assert lines[1].split() == ["prompt_tokens", "12", "2026-11-28", "00:00:00", "request/req-1/prompt_tokens"]
    assert " ".join(lines[2:]) == "m-1 on ep-a, key k: stop; counts from engine_final; 0.000001 USD by book-1"
