"""Limits of several hosts: what is heard of the others counts, once, and for as long as their minute."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from libs.common.events.tables import CountsEntry
from services.router.core.elsewhere import SILENT_S, WORD_BYTES_MAX, Counted, Elsewhere
from services.router.core.limits import Grant, Limit, MinuteLimits
from services.router.core.rows import REQUESTS, TOKENS, WINDOW_S
from services.router.shell.limits.shared_limits import SharedLimits, SharedRows, a_board

TEN = [Limit("e", requests=10, tokens=10_000)]
SEEDS = 20
MINUTE_MS = WINDOW_S * 1000


@dataclass
class Admitted:
    """One request, as the test knows it."""

    at_ms: int
    grant: Grant
    is_settled: bool = False


@dataclass
class Host:
    """A host with a clock of its own; `heard` are requests of others of which it was told."""

    name: str
    began_ms: int
    kind: type[Elsewhere]
    boots: int = 0

    def __post_init__(self) -> None:
        self.begin(0)

    def begin(self, now_ms: int) -> None:
        self.boots += 1
        self.limits, self.theirs = MinuteLimits(), MinuteLimits()
        self.elsewhere = self.kind(self.limits, self.theirs, slot=self.slot(now_ms))
        self.own: list[Admitted] = []
        self.heard: list[Admitted] = []
        self.met: dict[str, tuple[int, int, int]] = {}  # The first second that a boot said, the last, and when.

    @property
    def boot_id(self) -> str:
        return f"{self.name}.{self.boots}"

    def slot(self, now_ms: int) -> int:
        return (self.began_ms + now_ms) // 1000

    def admit(self, now_ms: int, tokens: int) -> Admitted | None:
        said = self.limits.reserve(TEN, tokens=tokens, now_ms=self.began_ms + now_ms)
        if not isinstance(said, Grant):
            return None
        self.own.append(Admitted(now_ms, said))
        return self.own[-1]

    def settle(self, now_ms: int, used: int) -> None:
        for one in self.own:
            if not one.is_settled:
                self.limits.settle(one.grant, tokens=used, now_ms=self.began_ms + now_ms)
                one.is_settled = True
                return

    def pass_time(self, now_ms: int) -> None:
        slot = self.slot(now_ms)
        self.elsewhere.pass_time(slot)
        self.met = {boot: said for boot, said in self.met.items() if slot - said[2] <= SILENT_S + WINDOW_S}

    def word(self, now_ms: int) -> CountsEntry:
        slot = self.slot(now_ms)
        said = self.elsewhere.word(slot)
        self.check_own(said.counts.get("e", ()), slot)
        return CountsEntry(
            instance=self.name, boot_id=self.boot_id, second=slot, counts=said.counts, running=said.running
        )

    def check_own(self, told: tuple[tuple[int, int, int], ...], slot: int) -> None:
        """What it tells is what it admitted, and none of what it heard."""
        seconds = [self.slot(each.at_ms) for each in self.own if self.slot(each.at_ms) >= slot - WINDOW_S]
        assert {second: count for second, count, _ in told if count} == {each: seconds.count(each) for each in seconds}

    def hear(self, now_ms: int, word: CountsEntry, known: list[Admitted]) -> None:
        slot = self.slot(now_ms)
        self.elsewhere.hear(word, slot=slot)
        first, last, at = self.met.get(word.boot_id, (word.second, word.second, slot))
        self.met[word.boot_id] = (first, word.second, slot if word.second > last else at)
        if word.second > first:
            self.heard += [each for each in known if not any(each is one for one in self.heard)]

    def sums(self) -> tuple[int, int]:
        at = self.limits.rows.find("e")
        return (0, 0) if at is None else (self.limits.rows.cells[at + REQUESTS], self.limits.rows.cells[at + TOKENS])


@dataclass
class Life:
    """Two or three hosts, and the words under way to each: in order, but lost, late or twice, as the bus may."""

    hosts: list[Host]
    now_ms: int = 0
    mail: dict[tuple[int, int], list[tuple[CountsEntry, list[Admitted]]]] = field(default_factory=dict)

    def tell(self, speaker: int) -> None:
        word = self.hosts[speaker].word(self.now_ms)
        for other in range(len(self.hosts)):
            if other != speaker:
                self.mail.setdefault((speaker, other), []).append((word, list(self.hosts[speaker].own)))

    def deliver(self, speaker: int, other: int, fate: str) -> None:
        waiting = self.mail.get((speaker, other), [])
        if not waiting:
            return
        word = waiting[0]
        if fate != "again":
            waiting.pop(0)
        if fate != "lost":
            self.hosts[other].hear(self.now_ms, *word)
        self.check()

    def admit(self, number: int, tokens: int) -> None:
        """No minute holds more than the limit of what a host admitted and heard of."""
        host = self.hosts[number]
        if host.admit(self.now_ms, tokens) is not None:
            within = [each for each in (*host.own, *host.heard) if each.at_ms > self.now_ms - MINUTE_MS]
            assert len(within) <= 10, "it had heard of more than it left room for"
        self.check()

    def check(self) -> None:
        """Nothing is counted twice, or below nothing."""
        for host in self.hosts:
            assert all(cell >= 0 for cell in host.limits.rows.cells)
            assert host.sums()[0] <= len(host.own) + len(host.heard), "something was counted twice"

    def quieten(self) -> None:
        """All tell all what is; by then each host has the same sums, if nothing has left a window."""
        self.mail.clear()
        for _ in range(2):
            self.now_ms += 1_000
            for speaker in range(len(self.hosts)):
                self.tell(speaker)
            for speaker, other in list(self.mail):
                while self.mail[speaker, other]:
                    self.deliver(speaker, other, "told")


STEPS = {"admit": 40, "settle": 20, "tell": 25, "told": 40, "lost": 6, "again": 6, "wait": 25, "restart": 1}
WAITS_MS = (30, 100, 100, 300, 700, 700, 2_000, 2_000, 20_000, 61_000)


def live(life: Life, chance: random.Random, steps: dict[str, int]) -> None:
    """Let anything happen a while."""
    numbers = range(len(life.hosts))
    for what in chance.choices(list(steps), list(steps.values()), k=300):
        number, other = chance.sample(numbers, 2)
        match what:
            case "admit":
                life.admit(number, chance.randrange(1, 50))
            case "settle":
                life.hosts[number].settle(life.now_ms, chance.randrange(90))
            case "tell":
                life.tell(number)
            case "wait":
                life.now_ms += chance.choice(WAITS_MS)
                for host in life.hosts:
                    host.pass_time(life.now_ms)
            case "restart":
                life.hosts[number].begin(life.now_ms)
            case _:
                life.deliver(number, other, what)


def a_life(chance: random.Random, kind: type[Elsewhere] = Elsewhere) -> Life:
    count = chance.choice((2, 3))
    return Life([Host(f"router-{number}", chance.randrange(10**9), kind) for number in range(count)])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_minute_holds_more_than_a_host_admitted_and_had_heard_of(seed: int) -> None:
    chance = random.Random(seed)

    live(a_life(chance), chance, STEPS)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_when_all_is_said_every_host_has_the_same_sums(seed: int) -> None:
    chance = random.Random(seed)
    life = a_life(chance)
    live(life, chance, {what: weight for what, weight in STEPS.items() if what not in {"restart", "wait"}})

    life.quieten()

    assert len({host.sums() for host in life.hosts}) == 1
    assert life.hosts[0].sums()[0] == sum(len(host.own) for host in life.hosts)


class Forgetful(Elsewhere):
    """Counts every word from nothing."""

    def hear(self, said: CountsEntry, *, slot: int) -> None:
        """The same, but what was counted is forgotten."""
        for boot in self._boots.values():
            boot.counted.clear()
        super().hear(said, slot=slot)


class Deaf(Elsewhere):
    """Hears nothing."""

    def hear(self, said: CountsEntry, *, slot: int) -> None:
        """Nothing."""


class Echoing(Elsewhere):
    """Tells what it heard as its own."""

    def _both(self, bucket: str, counted: Counted, *, sign: int = 1) -> None:
        super()._both(bucket, counted, sign=sign)
        self._theirs = MinuteLimits()


@pytest.mark.parametrize("kind", [Forgetful, Deaf, Echoing])
def test_a_host_that_does_it_wrong_is_found_out(kind: type[Elsewhere]) -> None:
    found = 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        try:
            live(a_life(chance, kind), chance, STEPS)
        except AssertionError:
            found += 1

    assert found, "in no life"


def filled_ms(began_ms: int, kind: type[Elsewhere] = Elsewhere) -> int:
    """When there is room at a host, after another admitted all that may be at once."""
    one, other = Host("one", 0, kind), Host("other", began_ms, kind)
    other.hear(0, one.word(0), [])
    for _ in range(10):
        one.admit(4_321, tokens=1)
    for now_ms in (4_400, 4_950, 5_100, 7_100):
        other.hear(now_ms, one.word(now_ms), one.own)
    return next(each for each in range(60_000, 75_000, 50) if other.admit(each, tokens=1))


@pytest.mark.parametrize("began_ms", range(0, 2_000, 130))
def test_room_that_others_took_comes_back_a_few_seconds_late_and_never_early(began_ms: int) -> None:
    assert 4_321 + MINUTE_MS <= filled_ms(began_ms) <= 4_321 + MINUTE_MS + 4_000


class Early(Elsewhere):
    """Counts a second of theirs before its time."""

    def _both(self, bucket: str, counted: Counted, *, sign: int = 1) -> None:
        slot, requests, tokens = counted
        super()._both(bucket, (slot - 2, requests, tokens), sign=sign)


def test_a_host_that_gives_others_room_too_early_is_found_out() -> None:
    assert any(filled_ms(began_ms, Early) < 4_321 + MINUTE_MS for began_ms in range(0, 2_000, 130))


Seconds = tuple[tuple[int, int, int], ...]


def said(second: int, boot: str = "b", *, e: Seconds = (), running: int = 0) -> CountsEntry:
    return CountsEntry(instance="router-1", boot_id=boot, second=second, counts={"e": e}, running={"e": running})


def admits(limits: MinuteLimits, second: float, limit: Limit = TEN[0]) -> int:
    """How many more there is room for."""
    count = 0
    while isinstance(limits.reserve([limit], tokens=1, now_ms=int(second * 1000)), Grant):
        count += 1
    return count


def hearing(*words: CountsEntry, slot: int) -> tuple[MinuteLimits, Elsewhere]:
    limits = MinuteLimits()
    elsewhere = Elsewhere(limits, MinuteLimits(), slot=slot)
    for each in words:
        elsewhere.hear(each, slot=slot)
    return limits, elsewhere


def test_what_a_bucket_kept_of_a_dead_host_counts_for_nothing() -> None:
    old = said(50, e=((50, 7, 70),), running=3)

    limits, _ = hearing(old, old, slot=1_000)

    assert admits(limits, 1_000) == 10


def test_a_dead_host_leaves_when_its_minute_is_over_and_what_it_ran_is_over_before() -> None:
    limits, elsewhere = hearing(said(4), said(5, e=((5, 7, 70),), running=2), slot=1_000)
    two = Limit("e", at_once=2)
    assert not admits(limits, 1_000, two)

    elsewhere.pass_time(1_000 + SILENT_S)
    assert not admits(limits, 1_000 + SILENT_S, two)
    elsewhere.pass_time(1_001 + SILENT_S)
    assert admits(limits, 1_001 + SILENT_S, two) == 2

    assert not elsewhere.hears(1_001 + SILENT_S)
    limits, _ = hearing(said(4), said(5, e=((5, 7, 70),)), slot=1_000)
    assert admits(limits, 1_060) == 3
    assert admits(limits, 1_064) == 7


def test_what_a_host_admitted_before_it_began_again_stays_and_what_it_ran_does_not() -> None:
    limits, elsewhere = hearing(said(4), said(5, e=((5, 3, 30),), running=1), slot=1_000)
    assert not admits(limits, 1_000, Limit("e", at_once=1))

    elsewhere.hear(said(1, "c"), slot=1_001)
    elsewhere.hear(said(2, "c", e=((2, 2, 20),)), slot=1_002)

    assert admits(limits, 1_002, Limit("e", at_once=1)) == 1
    assert admits(limits, 1_002) == 4


def test_numbers_that_no_host_could_mean_change_nothing() -> None:
    wild = ((5, -3, 1), (5, 1, 1 << 70), (900, 1, 1), (-900, 1, 1))

    limits, elsewhere = hearing(said(4), said(5, e=wild, running=-4), slot=1_000)

    assert admits(limits, 1_000) == 10
    assert elsewhere.word(1_000).running == {}


def test_a_word_stays_small_and_tells_of_the_busiest() -> None:
    limits, elsewhere = hearing(slot=1_000)
    for second in range(0, 60, 4):
        for each in range(900):
            limits.reserve([Limit(f"quota/tenant-{each}.main", at_once=10**6)], tokens=1, now_ms=second * 1000)
    for _ in range(20):
        limits.reserve([Limit("quota/busy", requests=10**6)], tokens=1, now_ms=60_000)

    word = elsewhere.word(60)
    entry = CountsEntry(instance="r", boot_id="b", second=60, counts=word.counts, running=word.running)

    assert WORD_BYTES_MAX / 2 < len(entry.model_dump_json()) < WORD_BYTES_MAX
    assert word.counts["quota/busy"] == ((60, 20, 20),)


def test_a_worker_that_starts_again_tells_what_is_ours_and_counts_nothing_twice() -> None:
    rows, others = a_board(2), a_board(0)

    def started(slot: int) -> Elsewhere:
        rules = MinuteLimits(SharedRows(rows, 2), workers=2)
        return Elsewhere(rules, MinuteLimits(SharedRows(others, 0), workers=0), slot=slot, lock=rows)

    requests = SharedLimits(rows, worker=1, workers=2)
    before = started(1_000)
    for word in (said(4), said(5, e=((5, 6, 60),), running=1)):
        before.hear(word, slot=1_000)
    assert isinstance(requests.reserve(TEN, tokens=10, now_ms=1_000_000), Grant)

    after = started(1_001)
    assert after.word(1_001).counts == {"e": ((1_000, 1, 10),)}
    for second in (6, 7, 8):
        after.hear(said(second, e=((5, 6, 60),), running=1), slot=995 + second)
        after.pass_time(995 + second)
    after.pass_time(1_004)

    assert after.word(1_004).counts == {"e": ((1_000, 1, 10),)}
    assert not isinstance(requests.reserve([Limit("e", at_once=1)], tokens=1, now_ms=1_004_000), Grant)
    left = sum(isinstance(requests.reserve(TEN, tokens=1, now_ms=1_004_000), Grant) for _ in range(10))
    assert left == 3
