"""A bucket that lost what it held gets it again, and never a key that was revoked."""

from __future__ import annotations

from libs.common.bus.streams import KEYS, QUOTAS
from libs.common.units import MINUTE_MS
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.shell.refilling import Refilling
from tests.unit.endpoint_api.given import Stand, a_caller


class Buckets:
    """Carries what is put to the mirrors, as relay, broker and watch would; `wipe` is a broker without its disk."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.refilling = Refilling(stand.service.runner("key"), stand.service.runner("tenant"), stand.clock)
        self._carried = 0
        self._held: dict[str, set[str]] = {KEYS: set(), QUOTAS: set()}

    def carry(self) -> list[str]:
        """Bring what was put since; returns the keys."""
        messages = list(self.stand.store.outbox.values())
        puts = [each for each in messages[self._carried :] if each.subject.startswith("$KV.")]
        self._carried = len(messages)
        for each in puts:
            _, bucket, key = each.subject.split(".", 2)
            is_gone = "KV-Operation" in each.headers
            self.refilling.mirrors[bucket].change(key, None if is_gone else each.body)
            self._held[bucket].add(key)
        return [each.subject.split(".", 2)[2] for each in puts]

    def wipe(self) -> None:
        """Everything is gone."""
        for bucket, keys in self._held.items():
            for key in keys:
                self.refilling.mirrors[bucket].lose(key)

    def rounds(self) -> int:
        """Look twice: what lacks twice is lost."""
        return self.refilling.run() + self.refilling.run()


def test_a_wiped_bucket_is_filled_with_all_that_holds_and_nothing_that_was_revoked() -> None:
    stand = Stand()
    stand.api.tenants.adopt("acme", "main")
    live = stand.api.keys.create(Ask(a_caller()), name="a", scopes=["inference"]).key
    gone = stand.api.keys.create(Ask(a_caller()), name="b", scopes=["inference"]).key
    stand.api.keys.revoke(Ask(a_caller()), gone.id)
    buckets = Buckets(stand)
    buckets.carry()
    assert buckets.rounds() == 0

    buckets.wipe()
    put = buckets.rounds()
    carried = buckets.carry()

    assert put == 3
    assert sorted(carried) == sorted([live.id, gone.id, "acme", "acme.main"])
    assert buckets.refilling.mirrors[KEYS].says(gone.id, None)
    assert buckets.rounds() == 0


def test_what_is_on_its_way_is_not_put_again() -> None:
    stand = Stand()
    buckets = Buckets(stand)
    stand.api.keys.create(Ask(a_caller()), name="a", scopes=["inference"])

    before = buckets.refilling.run()
    buckets.carry()

    assert (before, buckets.refilling.run(), buckets.refilling.run()) == (0, 0, 0)


def test_a_revocation_between_the_look_and_the_put_is_not_undone() -> None:
    stand = Stand()
    key = stand.api.keys.create(Ask(a_caller()), name="a", scopes=["inference"]).key
    buckets = Buckets(stand)
    buckets.carry()
    buckets.wipe()
    assert buckets.refilling.run() == 0

    stand.api.keys.revoke(Ask(a_caller()), key.id)
    buckets.refilling.run()
    buckets.carry()

    assert buckets.refilling.mirrors[KEYS].says(key.id, None)


def test_a_revoked_key_that_an_old_bucket_brings_back_is_taken_out_again() -> None:
    stand = Stand()
    key = stand.api.keys.create(Ask(a_caller()), name="a", scopes=["inference"]).key
    buckets = Buckets(stand)
    buckets.carry()
    [old] = [each.body for each in stand.store.outbox.values() if each.subject == f"$KV.keys.{key.id}"]
    stand.api.keys.revoke(Ask(a_caller()), key.id)
    buckets.carry()

    buckets.refilling.mirrors[KEYS].change(key.id, old)  # Restored from a copy that is older than the revocation.
    buckets.rounds()
    buckets.carry()

    assert buckets.refilling.mirrors[KEYS].says(key.id, None)


def test_a_bucket_at_rest_is_compared_only_now_and_then() -> None:
    stand = Stand()
    stand.api.keys.create(Ask(a_caller()), name="a", scopes=["inference"])
    buckets = Buckets(stand)
    buckets.carry()
    assert buckets.rounds() == 0
    reads = 0
    page = stand.store.page

    def counted(kind: str, *, scope: str | None = None, after: str = "", limit: int = 100) -> object:
        nonlocal reads
        reads += 1
        return page(kind, scope=scope, after=after, limit=limit)

    stand.store.page = counted  # type: ignore[assignment,method-assign]  # Counts reads, and does them.
    for _ in range(10):
        buckets.refilling.run()
    at_rest = reads
    stand.clock.advance(6 * MINUTE_MS)
    buckets.refilling.run()

    assert at_rest == 0
    assert reads > 0
