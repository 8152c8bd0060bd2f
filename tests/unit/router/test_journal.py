"""What the usage journal promises, kept by the one in memory and the one on disk alike."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from libs.common.errors import Rejected, Unavailable
from libs.common.events.route import RequestUsage
from services.router.core.serving import Finish, Row
from services.router.shell.journal.log import LogUsageJournal
from services.router.shell.journal.memory import JournalFile, MemoryUsageJournal
from services.router.shell.journal.segment import Segment, records
from services.router.shell.journal.store import read_rows
from services.router.shell.ports import UsageJournal
from tests.unit.router.heard import NOW
from tests.unit.router.test_serving import a_serving

Boot = Callable[[str], UsageJournal]
MAPS = Path("/proc/self/maps")


@pytest.fixture(params=["memory", "log"])
def boot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Boot]:
    """Opens the same file on behalf of one boot after the other."""
    file = JournalFile()
    opened: list[UsageJournal] = []

    def start(boot_id: str) -> UsageJournal:
        journal: UsageJournal = (
            MemoryUsageJournal(boot_id, file)
            if request.param == "memory"
            else LogUsageJournal(str(tmp_path / "usage.db"))
        )
        opened.append(journal)
        return journal

    yield start
    for each in opened:
        each.close()


def a_row(request_id: str = "req-1", tokens: int = 0, finish: str = Finish.ROUTER_CRASH) -> Row:
    row = a_serving().opening
    return msgspec.structs.replace(row, request_id=request_id, completion_tokens=tokens, finish=finish)


def reported(row: Row) -> RequestUsage:
    return RequestUsage.model_validate(msgspec.to_builtins(row))


def waiting(journal: UsageJournal, sent_before_ms: int = NOW) -> list[RequestUsage]:
    return read_rows(journal.unconfirmed(sent_before_ms=sent_before_ms, limit=100))


def test_a_finished_row_waits_until_it_is_confirmed(boot: Boot) -> None:
    journal = boot("b1")
    journal.begin(a_row())
    assert waiting(journal) == []
    journal.checkpoint(a_row(tokens=48))
    journal.finish(a_row(tokens=60, finish="stop")).wait(5)

    assert waiting(journal) == [reported(a_row(tokens=60, finish="stop"))]
    assert journal.backlog() == 1
    assert journal.confirm(["req-1", "req-2"]) == 1
    assert journal.confirm(["req-1"]) == 0
    assert (waiting(journal), journal.backlog()) == ([], 0)


def test_what_was_sent_waits_its_time_before_it_is_due_again(boot: Boot) -> None:
    journal = boot("b1")
    for each in ("req-1", "req-2"):
        journal.begin(a_row(each))
        journal.finish(a_row(each)).wait(5)

    journal.mark_sent(["req-1", "req-9"], now_ms=NOW)

    assert [each.request_id for each in waiting(journal, NOW)] == ["req-2"]
    assert [each.request_id for each in waiting(journal, NOW + 1)] == ["req-1", "req-2"]
    assert list(journal.unconfirmed(sent_before_ms=NOW + 1, limit=1)) == ["req-1"]


def test_rows_of_dead_boots_are_billed_at_their_last_checkpoint_once(boot: Boot) -> None:
    dead = boot("b1")
    dead.begin(a_row("req-1"))
    dead.begin(a_row("req-2"))
    dead.checkpoint(a_row("req-2", tokens=48))
    dead.begin(a_row("req-3"))
    dead.finish(a_row("req-3", tokens=9, finish="stop")).wait(5)
    dead.close()

    journal = boot("b2")
    journal.begin(a_row("req-4"))

    assert journal.recover() == 2
    assert journal.recover() == 0
    billed = {each.request_id: (each.completion_tokens, each.finish) for each in waiting(journal)}
    assert billed == {"req-1": (0, "router_crash"), "req-2": (48, "router_crash"), "req-3": (9, "stop")}


def test_a_checkpoint_after_the_end_changes_nothing(boot: Boot) -> None:
    journal = boot("b1")
    journal.begin(a_row())
    journal.finish(a_row(tokens=5)).wait(5)

    journal.checkpoint(a_row(tokens=99))

    assert waiting(journal) == [reported(a_row(tokens=5))]
    journal.close()
    assert boot("b2").recover() == 0


def test_many_writers_share_commits_and_lose_nothing(tmp_path: Path) -> None:
    journal = LogUsageJournal(str(tmp_path / "usage.db"), segment_bytes=16 * 1024)

    def write(writer: int) -> None:
        for index in range(50):
            row = a_row(f"req-{writer}-{index}")
            journal.begin(row)
            journal.finish(row).wait(20)

    threads = [threading.Thread(target=write, args=(each,)) for each in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert journal.backlog() == 400
    journal.close()


def test_a_file_that_can_not_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="can not open the usage journal"):
        LogUsageJournal(str(tmp_path / "nowhere" / "usage.db"))


def test_a_row_is_what_is_reported_and_has_no_content_and_no_key() -> None:
    assert set(RequestUsage.model_fields) == set(Row.__struct_fields__) == {
        "request_id", "tenant_id", "project_id", "endpoint_id", "generation", "model", "tier", "region", "key_id",
        "api",
        "prompt_tokens", "completion_tokens", "token_source", "finish", "started_ms", "first_token_ms", "ended_ms",
        "cached_prompt_tokens", "reasoning_tokens", "egress_bytes", "adapter", "slices",
        "tenancy",
    }  # fmt: skip


def test_what_a_killed_process_wrote_is_billed_without_any_sync(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    script = (
        "import os, signal, sys\n"
        "from tests.unit.router.test_journal import LogUsageJournal, a_row\n"
        "journal = LogUsageJournal(sys.argv[1], segment_bytes=16 * 1024)\n"
        "for each in range(100):\n"
        "    journal.begin(a_row(f'req-{each}'))\n"
        "    if each % 2: journal.finish(a_row(f'req-{each}', tokens=each, finish='stop'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -signal.SIGKILL

    journal = LogUsageJournal(str(path))

    assert journal.recover() == 50
    found = {each.request_id: (each.completion_tokens, each.finish) for each in waiting(journal)}
    assert found == {f"req-{n}": (n, "stop") if n % 2 else (0, "router_crash") for n in range(100)}
    assert journal.confirm(list(found)) == 100
    journal.close()
    assert LogUsageJournal(str(path)).recover() == 0


def test_a_record_that_was_cut_short_ends_the_log_and_what_is_before_it_counts(tmp_path: Path) -> None:
    segment = Segment(tmp_path / "log", size_bytes=4096)
    for record in (b"one", b"two", b"three"):
        segment.append(record)
    segment.close()
    content = bytearray((tmp_path / "log").read_bytes())
    content[content.index(b"three") + 4] ^= 1
    (tmp_path / "log").write_bytes(content)

    assert list(records(tmp_path / "log")) == [b"one", b"two"]


@pytest.mark.skipif(not MAPS.exists(), reason="says what is in memory on Linux alone")
def test_a_full_file_of_the_log_is_in_memory_no_longer(tmp_path: Path) -> None:
    journal = LogUsageJournal(str(tmp_path / "usage.db"), segment_bytes=16 * 1024)
    for each in range(20):
        journal.begin(a_row(f"req-{each}"))
        journal.finish(a_row(f"req-{each}")).wait(20)
    assert len(list(tmp_path.glob("usage.db.log.*"))) > 1

    deadline_s = time.monotonic() + 30
    while (count := MAPS.read_text().count(f"{tmp_path}/usage.db.log.")) > 1 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    journal.close()

    assert count == 1


def test_a_spare_file_that_waits_is_never_made_anew_under_the_one_who_takes_it(tmp_path: Path) -> None:
    journal = LogUsageJournal(str(tmp_path / "usage.db"), segment_bytes=16 * 1024)
    deadline_s = time.monotonic() + 30
    while (spare := journal._spare) is None and time.monotonic() < deadline_s:
        time.sleep(0.01)

    journal._make_spare()  # As after a second file that filled before the first one's spare was taken.

    assert spare is not None
    assert journal._spare is spare
    journal.close()


def test_a_second_process_does_not_get_the_journal(tmp_path: Path) -> None:
    journal = LogUsageJournal(str(tmp_path / "usage.db"))

    with pytest.raises(Rejected, match="set MILLRACE_USAGE_DB"):
        LogUsageJournal(str(tmp_path / "usage.db"))

    journal.close()


def test_a_ledger_that_is_away_costs_disk_and_not_memory(tmp_path: Path) -> None:
    journal = LogUsageJournal(str(tmp_path / "usage.db"), segment_bytes=16 * 1024)
    journal.begin(a_row("long"))
    for each in range(200):
        journal.begin(a_row(f"req-{each}"))
        journal.finish(a_row(f"req-{each}")).wait(20)

    deadline_s = time.monotonic() + 30
    while len(journal._done) > 30 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert len(journal._done) <= 30
    assert journal.backlog() == 200
    everything = list(journal.unconfirmed(sent_before_ms=NOW, limit=1000))
    assert everything == [f"req-{each}" for each in range(200)]
    assert len(list(tmp_path.glob("usage.db.log.*"))) <= 2
    journal.mark_sent(everything, now_ms=NOW)
    assert waiting(journal, NOW) == []
    assert journal.confirm(everything) == 200
    journal.close()
    after = LogUsageJournal(str(tmp_path / "usage.db"))
    assert after.recover() == 1
    assert waiting(after)[-1].request_id == "long"
    after.close()


def test_a_disk_that_failed_once_is_not_believed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = LogUsageJournal(str(tmp_path / "usage.db"))
    journal.begin(a_row())
    working = os.fdatasync

    def fails(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(OSError, match="Input/output"):
        journal.finish(a_row()).wait(10)
    monkeypatch.setattr(os, "fdatasync", working)

    with pytest.raises(Unavailable, match="restart the router"):
        journal.begin(a_row("req-2"))
    journal.close()


def test_rows_that_version_0_1_left_are_billed(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    LogUsageJournal(str(path)).close()
    with sqlite3.connect(path) as file:
        row = msgspec.json.encode(a_row("old", tokens=7)).decode()
        file.execute("INSERT INTO live VALUES ('old', 'b0', ?)", (row,))
        file.execute("INSERT INTO done (request_id, data) VALUES ('older', ?)", (row.replace("old", "older"),))

    journal = LogUsageJournal(str(path))

    assert journal.recover() == 1
    assert sorted(each.request_id for each in waiting(journal)) == ["old", "older"]
    journal.close()
