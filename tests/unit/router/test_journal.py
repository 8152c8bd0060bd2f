"""What the usage journal promises, kept by the one in memory and the one on disk alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libs.common.errors import Unavailable
from libs.common.events.route import RequestUsage
from services.router.core.serving import Finish
from services.router.shell.journal import JournalFile, MemoryUsageJournal
from services.router.shell.ports import UsageJournal
from services.router.shell.store import SqlUsageJournal
from tests.unit.router.heard import NOW
from tests.unit.router.test_serving import a_serving

Boot = Callable[[str], UsageJournal]


@pytest.fixture(params=["memory", "sql"])
def boot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Boot]:
    """Opens the same file on behalf of one boot after the other."""
    file = JournalFile()
    opened: list[UsageJournal] = []

    def start(boot_id: str) -> UsageJournal:
        journal: UsageJournal = (
            MemoryUsageJournal(boot_id, file)
            if request.param == "memory"
            else SqlUsageJournal(str(tmp_path / "usage.db"), boot_id=boot_id)
        )
        opened.append(journal)
        return journal

    yield start
    for each in opened:
        each.close()


def a_row(request_id: str = "req-1", tokens: int = 0, finish: str = Finish.ROUTER_CRASH) -> RequestUsage:
    row = a_serving().opening()
    return row.model_copy(update={"request_id": request_id, "completion_tokens": tokens, "finish": finish})


def waiting(journal: UsageJournal, sent_before_ms: int = NOW) -> list[RequestUsage]:
    return list(journal.unconfirmed(sent_before_ms=sent_before_ms, limit=100))


def test_a_finished_row_waits_until_it_is_confirmed(boot: Boot) -> None:
    journal = boot("b1")
    journal.begin(a_row()).result(5)
    assert waiting(journal) == []
    journal.checkpoint(a_row(tokens=48)).result(5)
    journal.finish(a_row(tokens=60, finish="stop")).result(5)

    assert waiting(journal) == [a_row(tokens=60, finish="stop")]
    assert journal.backlog() == 1
    assert journal.confirm(["req-1", "req-2"]) == 1
    assert journal.confirm(["req-1"]) == 0
    assert (waiting(journal), journal.backlog()) == ([], 0)


def test_what_was_sent_waits_its_time_before_it_is_due_again(boot: Boot) -> None:
    journal = boot("b1")
    for each in ("req-1", "req-2"):
        journal.begin(a_row(each)).result(5)
        journal.finish(a_row(each)).result(5)

    journal.mark_sent(["req-1", "req-9"], now_ms=NOW)

    assert [each.request_id for each in waiting(journal, NOW)] == ["req-2"]
    assert [each.request_id for each in waiting(journal, NOW + 1)] == ["req-1", "req-2"]
    assert [each.request_id for each in journal.unconfirmed(sent_before_ms=NOW + 1, limit=1)] == ["req-1"]


def test_rows_of_dead_boots_are_billed_at_their_last_checkpoint_once(boot: Boot) -> None:
    dead = boot("b1")
    dead.begin(a_row("req-1")).result(5)
    dead.begin(a_row("req-2")).result(5)
    dead.checkpoint(a_row("req-2", tokens=48)).result(5)
    dead.begin(a_row("req-3")).result(5)
    dead.finish(a_row("req-3", tokens=9, finish="stop")).result(5)
    dead.close()

    journal = boot("b2")
    journal.begin(a_row("req-4")).result(5)

    assert journal.recover() == 2
    assert journal.recover() == 0
    billed = {each.request_id: (each.completion_tokens, each.finish) for each in waiting(journal)}
    assert billed == {"req-1": (0, "router_crash"), "req-2": (48, "router_crash"), "req-3": (9, "stop")}


def test_a_checkpoint_after_the_end_changes_nothing(boot: Boot) -> None:
    journal = boot("b1")
    journal.begin(a_row()).result(5)
    journal.finish(a_row(tokens=5)).result(5)

    journal.checkpoint(a_row(tokens=99)).result(5)

    assert waiting(journal) == [a_row(tokens=5)]
    assert boot("b2").recover() == 0


def test_many_writers_share_commits_and_lose_nothing(tmp_path: Path) -> None:
    journal = SqlUsageJournal(str(tmp_path / "usage.db"), boot_id="b1")

    def write(writer: int) -> None:
        for index in range(50):
            row = a_row(f"req-{writer}-{index}")
            journal.begin(row)
            journal.finish(row).result(20)

    threads = [threading.Thread(target=write, args=(each,)) for each in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert journal.backlog() == 400
    journal.close()


def test_a_file_that_can_not_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="can not open the usage journal"):
        SqlUsageJournal(str(tmp_path / "nowhere" / "usage.db"), boot_id="b1")


def test_the_journal_keeps_no_content_and_no_key(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    journal = SqlUsageJournal(str(path), boot_id="b1")
    journal.begin(a_row()).result(5)
    journal.close()

    assert set(a_row().model_dump()) == {
        "request_id", "tenant_id", "project_id", "endpoint_id", "generation", "model", "tier", "region", "key_id",
        "api",
        "prompt_tokens", "completion_tokens", "token_source", "finish", "started_ms", "first_token_ms", "ended_ms",
    }  # fmt: skip
