"""Policies of balancing compared on simulated replicas: ``python -m tests.sim.balancing`` writes docs/balancing.md.

A replica reads prompts one after the other (what it has in its cache costs nothing), generates for all its requests at
once, slower the more there are, and keeps the blocks that it read last. Routers see of it what real ones see: how many
requests they sent and have not got back. The policies are the functions that the data plane runs.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.router.core import affinity, balancing

PAGE: Final = Path(__file__).parents[2] / "docs" / "balancing.md"
REPLICAS: Final = 8
READ_MS_PER_KB: Final = 12.0  # 250 tokens at 20,000 a second: an 8B model on one L40S.
TOKEN_MS: Final = 12.0  # One token of one request; each neighbour adds a sixteenth.
BLOCKS_KEPT: Final = 400  # 400 KB of prompts, 100,000 tokens.
ANSWERED_MS: Final = 150.0  # For "counted at the answer": load that is seen too late.


@dataclass(frozen=True, slots=True)
class Request:
    """What comes, and when: a prompt as bytes, and how many tokens are generated."""

    at_ms: float
    prompt: bytes
    tokens: int


@dataclass(slots=True)
class Replica:
    """A simulated engine."""

    name: str
    load: int = 0
    weight: int = 100
    zone: str = ""
    read_until_ms: float = 0.0
    running: int = 0
    read_ms: float = 0.0
    cache: dict[int, None] = field(default_factory=dict)

    def take(self, now_ms: float, prompt: affinity.Marks, size_kb: float) -> tuple[float, float]:
        """When the first token comes, and which part of the prompt was in the cache."""
        known = next((index for index, mark in enumerate(prompt) if mark in self.cache), len(prompt))
        hit_kb = min(size_kb, float(len(prompt) - known))
        cost_ms = (size_kb - hit_kb) * READ_MS_PER_KB
        self.read_until_ms = max(now_ms, self.read_until_ms) + cost_ms
        self.read_ms += cost_ms
        for mark in prompt:
            self.cache.pop(mark, None)
            self.cache[mark] = None
        while len(self.cache) > BLOCKS_KEPT:
            del self.cache[next(iter(self.cache))]
        return self.read_until_ms + TOKEN_MS, hit_kb / size_kb


Policy = Callable[[list[Replica], affinity.Marks, int], Replica]


def at_random() -> Policy:
    return lambda replicas, _marks, draw: replicas[draw % len(replicas)]


def in_turns() -> Policy:
    turns = iter(range(10**9))
    return lambda replicas, _marks, _draw: replicas[next(turns) % len(replicas)]


def least_loaded() -> Policy:
    return lambda replicas, _marks, draw: balancing.choose(replicas, draw=draw)


def prefix(slack: int, *, miss_to_first: bool = False) -> Policy:
    """Follow the prompt's memory within ``slack``; a planted fault sends every miss to the first replica."""
    memory, rules = affinity.Memory(), balancing.Rules(affinity_slack=slack)

    def policy(replicas: list[Replica], prompt: affinity.Marks, draw: int) -> Replica:
        name = memory.recall(prompt)
        preferred = next((each for each in replicas if each.name == name), None)
        if preferred is None and miss_to_first:
            preferred = replicas[0]
        chosen = balancing.choose(replicas, draw=draw, preferred=preferred, rules=rules)
        memory.learn(prompt, chosen.name)
        return chosen

    return policy


@dataclass(frozen=True, slots=True)
class Tried:
    """A policy, what a request without its first token counts for it, and how late load is counted."""

    make: Callable[[], Policy]
    unread: int = balancing.UNREAD_LOAD
    late_ms: float = 0.0


OURS: Final = balancing.DEFAULT.affinity_slack
POLICIES: Final[Mapping[str, Tried]] = {
    "at random": Tried(at_random),
    "in turns": Tried(in_turns),
    "least outstanding": Tried(least_loaded, unread=1),
    "least load": Tried(least_loaded),
    "prefix, always": Tried(lambda: prefix(10**6)),
    "prefix, slack 4, least outstanding": Tried(lambda: prefix(4), unread=1),
    "prefix, slack 2": Tried(lambda: prefix(2)),
    f"**prefix, slack {OURS}, least load** (ours)": Tried(lambda: prefix(OURS)),
    "prefix, slack 32": Tried(lambda: prefix(32)),
    "ours, but load counted at the answer": Tried(lambda: prefix(OURS), late_ms=ANSWERED_MS),
    "ours, but a miss goes to the first": Tried(lambda: prefix(OURS, miss_to_first=True)),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a policy fared. `busiest` is the reading done by the busiest replica over the mean."""

    hit_percent: float
    p50_ms: float
    p99_ms: float
    busiest: float


def run(requests: list[Request], tried: Tried, *, seed: int = 1) -> Outcome:
    """Serve the requests."""
    policy = tried.make()
    replicas = [Replica(f"replica-{index}") for index in range(REPLICAS)]
    changes: list[tuple[float, int, Replica, int, int]] = []  # (when, order, whose, load, running)
    firsts, hits = [], []
    for count, request in enumerate(requests):
        now_ms = request.at_ms
        while changes and changes[0][0] <= now_ms:
            _, _, whose, load, running = heapq.heappop(changes)
            whose.load += load
            whose.running += running
        prompt = affinity.marks(request.prompt)
        chosen = policy(replicas, prompt, balancing.drawn(seed, count))
        first_ms, hit = chosen.take(now_ms, prompt, len(request.prompt) / affinity.BLOCK_BYTES)
        end_ms = first_ms + request.tokens * TOKEN_MS * (1 + chosen.running / 16)
        chosen.running += 1
        counted_ms = now_ms + tried.late_ms
        steps = (
            (counted_ms, tried.unread, 0),
            (max(counted_ms, first_ms), 1 - tried.unread, 0),
            (max(counted_ms, end_ms), -1, -1),
        )
        for order, (at_ms, load, running) in enumerate(steps):
            heapq.heappush(changes, (at_ms, 3 * count + order, chosen, load, running))
        firsts.append(first_ms - now_ms)
        hits.append(hit)
    read = [each.read_ms for each in replicas]
    cuts = statistics.quantiles(firsts, n=100)
    return Outcome(100 * statistics.mean(hits), cuts[49], cuts[98], max(read) / statistics.mean(read))


def text(chance: random.Random, size_kb: int) -> bytes:
    return chance.randbytes(size_kb * affinity.BLOCK_BYTES)


def chats(seed: int = 7, *, count: int = 6000, per_s: float = 36.0) -> list[Request]:
    """Conversations over 40 applications: a system prompt of 2 to 6 KB, then turns that repeat all that was said."""
    chance = random.Random(seed)
    systems = [text(chance, chance.randint(2, 6)) for _ in range(40)]
    talks: list[bytes] = []
    found, now_ms = [], 0.0
    for _ in range(count):
        now_ms += chance.expovariate(per_s / 1000)
        index = chance.randrange(len(talks)) if talks and chance.random() < 0.75 else -1
        prompt = talks.pop(index) if index >= 0 else systems[min(int(chance.paretovariate(0.8)) - 1, 39)]
        prompt += text(chance, 1)
        if len(prompt) < 14 * affinity.BLOCK_BYTES:
            talks.append(prompt)
        found.append(Request(now_ms, prompt, chance.randint(20, 120)))
    return found


def one_hot(seed: int = 8, *, count: int = 6000, per_s: float = 44.0) -> list[Request]:
    """Two thirds of all requests begin with the same 4 KB: one replica that follows it always would drown."""
    chance = random.Random(seed)
    hot = text(chance, 4)
    found, now_ms = [], 0.0
    for _ in range(count):
        now_ms += chance.expovariate(per_s / 1000)
        begin = hot if chance.random() < 2 / 3 else text(chance, 4)
        found.append(Request(now_ms, begin + text(chance, 1), chance.randint(20, 120)))
    return found


def strangers(seed: int = 9, *, count: int = 6000, per_s: float = 36.0) -> list[Request]:
    """Prompts of 1 to 12 KB that have nothing in common: affinity must do no harm."""
    chance = random.Random(seed)
    found, now_ms = [], 0.0
    for _ in range(count):
        now_ms += chance.expovariate(per_s / 1000)
        found.append(Request(now_ms, text(chance, chance.randint(1, 12)), chance.randint(20, 120)))
    return found


WORKLOADS: Final[Mapping[str, Callable[[], list[Request]]]] = {
    "conversations": chats,
    "one hot prompt": one_hot,
    "nothing in common": strangers,
}


def compare() -> dict[str, dict[str, Outcome]]:
    """Every policy on every workload."""
    found: dict[str, dict[str, Outcome]] = {}
    for workload, make in WORKLOADS.items():
        requests = make()
        found[workload] = {name: run(requests, tried) for name, tried in POLICIES.items()}
    return found


def page(found: Mapping[str, Mapping[str, Outcome]]) -> Iterator[str]:
    """The document, by lines."""
    yield "# Balancing policies compared"
    yield ""
    yield f"{REPLICAS} simulated replicas, one seed, and the very functions that the data plane runs"
    yield "(`services/router/core/balancing.py`, `affinity.py`). Written by `python -m tests.sim.balancing`; the same"
    yield "numbers come out every time. *hit*: the part of prompts that was in the replica's cache. *first token*:"
    yield "milliseconds from the dispatch. *busiest*: reading done by the busiest replica, over the mean."
    yield ""
    yield "*Load* counts a request four times until its first token, since prompts are read one after the other."
    for workload, outcomes in found.items():
        doc = (WORKLOADS[workload].__doc__ or "").strip()
        yield from ("", f"## {workload.capitalize()}", "", doc, "")
        yield "| policy | hit % | first token p50 | p99 | busiest |"
        yield "| --- | ---: | ---: | ---: | ---: |"
        for name, each in outcomes.items():
            yield f"| {name} | {each.hit_percent:.0f} | {each.p50_ms:.0f} | {each.p99_ms:.0f} | {each.busiest:.2f} |"


if __name__ == "__main__":
    PAGE.write_text("\n".join(page(compare())) + "\n")
    print(PAGE.read_text())
