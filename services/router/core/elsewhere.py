"""What other hosts admitted, counted as if it had been admitted here; and what therefore is ours, to be told to them.

Each host tells what it admitted in each second of a steady clock of its own. Words are absolute: of each second the
difference to what was counted before is counted, so a word that is lost or comes twice costs nothing. Beside the rows
that requests look at, which hold what all admitted, lie rows of what the others did: the difference is ours.

What a word does not name stays as it was, and leaves with its minute: a host that dies, or begins anew (another boot,
whose counts come on top), is forgotten no sooner than that. What it had running is over once it is silent.

A second of theirs counts in a slot of ours that is never before its own and at most three after it, or later by as
long as the word took: what it takes of the room comes back late, never early.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from libs.common.events.tables import CountsEntry
from services.router.core.limits import MinuteLimits
from services.router.core.rows import NEWEST, REQUESTS, RING, RUNNING, TOKENS, WINDOW_S

SILENT_S: Final = 10  # Five words of a host that has nothing to say: it is gone, or the bus is.
FORMER_S: Final = 3  # Within which every host says again what a worker that died had heard of it.
AMOUNT_MAX: Final = 1 << 40  # In a second, and at once: more than any host does.
WORD_BYTES_MAX: Final = 200_000  # The stream takes 256 KiB.
BUCKET_BYTES: Final = 32  # The most that a bucket takes in a word beside its names and counts.

Told = tuple[int, int, int]  # A second; the requests and tokens that count in it.
Counted = tuple[int, int, int]  # The same by our clock: a slot.
NOTHING: Final[Counted] = (0, 0, 0)
FORMER: Final = ("", "")  # Stands for the boots of which the worker before us had heard.


@dataclass(slots=True)
class Boot:
    """What was heard of a host since it began."""

    second: int
    heard: int
    ahead: int | None = None  # From a second of its clock to the slot in which that counts.
    counted: dict[int, dict[str, Counted]] = field(default_factory=dict)  # By its second, and bucket.
    running: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Word:
    """What is ours, by bucket."""

    counts: dict[str, tuple[Told, ...]]
    running: dict[str, int]


class Elsewhere:
    """Counts of others within ``rules``, and alone in ``theirs``; ``lock`` is held while those of a bucket change."""

    def __init__(
        self,
        rules: MinuteLimits,
        theirs: MinuteLimits,
        *,
        slot: int,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self._rules = rules
        self._theirs = theirs
        self._lock = nullcontext() if lock is None else lock
        self._boots: dict[tuple[str, str], Boot] = {}
        self._busy: frozenset[str] = frozenset()  # What of ours ran when it was told last.
        cells, names = rules.rows.cells, rules.rows.names()
        self._runs = {name: runs for name, at in names.items() if (runs := cells[at + rules.elsewhere])}
        self._inherit(slot)

    def _inherit(self, slot: int) -> None:
        """Keep what a worker that died had counted, for as long as it takes to hear it again."""
        former = Boot(slot, slot, running=dict(self._runs))
        for name in list(self._theirs.rows.names()):
            at = self._theirs.renewed(name, slot)
            for each in range(slot - WINDOW_S, slot - WINDOW_S + RING):
                if any(amounts := _amounts(self._theirs, at, each)):
                    former.counted.setdefault(each, {})[name] = (each, *amounts)
        if former.counted or former.running:
            self._boots[FORMER] = former

    def hears(self, slot: int) -> bool:
        """Whether another host was heard lately."""
        return any(slot - boot.heard <= SILENT_S for boot in self._boots.values())

    def hear(self, said: CountsEntry, *, slot: int) -> None:
        """Count what a host said. The first word of a boot may be an old one that was kept: it only makes it known."""
        boot = self._boots.get((said.instance, said.boot_id))
        if boot is None:
            self._welcome(said, slot)
            return
        if said.second < boot.second or (boot.ahead is None and said.second == boot.second):
            return
        if said.second > boot.second:
            boot.second, boot.heard = said.second, slot
        behind = slot - said.second
        if boot.ahead is None or not behind < boot.ahead <= behind + 2:
            boot.ahead = behind + 1
        for old in [second for second in boot.counted if second < said.second - RING]:
            del boot.counted[old]
        for bucket, seconds in said.counts.items():
            self._count(boot, bucket, seconds, ahead=boot.ahead, slot=slot)
        boot.running = {bucket: runs for bucket, runs in said.running.items() if 0 < runs <= AMOUNT_MAX}
        self._let_run(slot)

    def _welcome(self, said: CountsEntry, slot: int) -> None:
        for (instance, _), former in self._boots.items():
            if instance == said.instance:
                former.running = {}
        self._boots[said.instance, said.boot_id] = Boot(said.second, slot)
        self._let_run(slot)

    def _count(self, boot: Boot, bucket: str, seconds: Sequence[Told], *, ahead: int, slot: int) -> None:
        """Count of each second what is new of it: first what it is now, so that who dies in between left no room."""
        changed = []
        for second, requests, tokens in seconds:
            if 0 <= boot.second - second <= WINDOW_S and 0 <= requests <= AMOUNT_MAX and 0 <= tokens <= AMOUNT_MAX:
                now = (second + ahead, requests, tokens)
                before = boot.counted.get(second, {}).get(bucket, NOTHING)
                if now != before:
                    changed.append((second, now, before))
        if not changed:
            return
        with self._lock:
            self._renew(bucket, slot)
            for second, now, before in changed:
                if now[0] == before[0]:
                    self._both(bucket, (now[0], now[1] - before[1], now[2] - before[2]))
                else:
                    self._both(bucket, now)
                    self._both(bucket, before, sign=-1)
                boot.counted.setdefault(second, {})[bucket] = now

    def _renew(self, bucket: str, slot: int) -> None:
        """Raises Unavailable if there is no row to be had; then nothing is counted in either."""
        self._theirs.renewed(bucket, slot)
        self._rules.renewed(bucket, slot)

    def _both(self, bucket: str, counted: Counted, *, sign: int = 1) -> None:
        slot, requests, tokens = counted
        for each in (self._rules, self._theirs):
            each.count(bucket, slot, requests=sign * requests, tokens=sign * tokens)

    def _let_run(self, slot: int) -> None:
        """Have the rows hold what others run now."""
        runs: dict[str, int] = {}
        for boot in self._boots.values():
            for bucket, count in boot.running.items():
                runs[bucket] = runs.get(bucket, 0) + count
        for bucket in self._runs.keys() | runs.keys():
            if runs.get(bucket, 0) != self._runs.get(bucket, 0):
                with self._lock:
                    self._rules.run_elsewhere(bucket, runs.get(bucket, 0), now_slot=slot)
        self._runs = runs

    def pass_time(self, slot: int) -> None:
        """End what silent hosts ran, and what the worker before us had counted: by now it was heard again."""
        for boot in self._boots.values():
            if slot - boot.heard > SILENT_S:
                boot.running = {}
        gone = [name for name, boot in self._boots.items() if slot - boot.heard > SILENT_S + WINDOW_S]
        for name in gone:
            del self._boots[name]
        if FORMER in self._boots and slot - self._boots[FORMER].heard >= FORMER_S:
            former = self._boots.pop(FORMER)
            for counted in former.counted.values():
                with self._lock:
                    for bucket, each in counted.items():
                        self._renew(bucket, slot)
                        self._both(bucket, each, sign=-1)
        self._let_run(slot)

    def word(self, slot: int, *, within_s: int = WINDOW_S) -> Word:
        """What is ours of the last seconds: of the busiest buckets first, as many as a message has room for.

        Raises Unavailable if another worker holds the counts.
        """
        rules, names, left = self._rules, self._rules.rows.names(), WORD_BYTES_MAX
        cells = rules.rows.cells
        told = [name for name, at in names.items() if cells[at + NEWEST] >= slot - within_s or name in self._busy]
        told.sort(key=lambda name: -cells[names[name] + REQUESTS])
        counts: dict[str, tuple[Told, ...]] = {}
        running: dict[str, int] = {}
        for name in told:
            seconds = tuple(self._ours(name, names[name], slot, within_s))
            left -= 2 * len(name) + BUCKET_BYTES + len(str(seconds))  # JSON is without the spaces.
            if left < 0:
                break
            if seconds:
                counts[name] = seconds
            if runs := sum(cells[names[name] + RUNNING : names[name] + rules.elsewhere]):
                running[name] = runs
        self._busy = frozenset(running)
        return Word(counts, running)

    def _ours(self, name: str, at: int, slot: int, within_s: int) -> Iterator[Told]:
        """Without a lock but for the newest second: what is counted meanwhile is in the next word."""
        is_heard = self._theirs.rows.find(name) is not None
        at_theirs = self._theirs.renewed(name, slot) if is_heard else 0
        with self._lock:
            newest = self._rules.rows.cells[at + NEWEST]
            of_newest = _amounts(self._rules, at, newest)
        for second in range(slot - within_s, min(slot, newest) + 1):
            requests, tokens = of_newest if second == newest else _amounts(self._rules, at, second)
            if is_heard and (requests or tokens):
                others = _amounts(self._theirs, at_theirs, second)
                requests, tokens = max(0, requests - others[0]), max(0, tokens - others[1])
            if requests or tokens:
                yield second, requests, tokens


def _amounts(limits: MinuteLimits, at: int, slot: int) -> tuple[int, int]:
    """What counts in a slot of the row: requests and tokens."""
    return limits.admitted(at, REQUESTS, slot), limits.admitted(at, TOKENS, slot)
