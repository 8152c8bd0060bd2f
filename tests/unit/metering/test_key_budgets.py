"""Budgets of keys: keys that follow one another spend one budget, and never pass it, whoever races and dies."""

from __future__ import annotations

from typing import Final

import pytest

from libs.common.events.envelope import Envelope
from libs.common.events.route import BudgetDrawn, Draw, RequestUsage
from libs.common.events.tables import KeyEntry, QuotaEntry
from libs.common.events.usage import BudgetReached
from libs.common.ids import EventId, KeyId
from libs.common.keys import Keyring
from services.endpoint_api.core import keys
from services.endpoint_api.core.commands import CreateKey, RotateKey, command_envelope
from services.endpoint_api.core.state import Key
from services.metering.core.money import UNLIMITED
from services.router.core.budgets import Held, Short
from tests.unit.metering.test_money_budgets import BUDGET, LIMIT, MOST, PERIOD, Race, Router, caught
from tests.unit.metering.world import T0, World, batch, requested, usage

FIRST: Final = KeyId("aaaaaaaaaa")
OF_KEY: Final = f"{BUDGET}.{FIRST}"
OF_IT: Final = LIMIT // 4  # In money: what the key may spend of its project's.
MAKE: Final = CreateKey(
    tenant_id="acme", project_id="main", name="ci", scopes=("inference",), sha256="ab" * 32, expires_at_ms=None,
    request="", keys_max=99, actor="key:k", money_per_month_nano=OF_IT,
)  # fmt: skip


def decided(key: Key, command: CreateKey | RotateKey) -> Key:
    """The key after a command."""
    return keys.decide(key, command_envelope(key.id, command, T0), T0).state


def entry_of(key: Key) -> KeyEntry:
    """What routers and metering hear of it."""
    found = keys.entry_of(key)
    assert found is not None
    return found


class Keys(Race):
    """A key with a budget in money is rotated again and again, and its predecessors go on for a while."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        beside = QuotaEntry(tenant_id="acme", tokens_per_month=UNLIMITED, money_per_month_nano=LIMIT)
        self.world.limits.change(BUDGET, beside.model_dump_json().encode())
        self.rotations = 0
        self.keys = [decided(Key(FIRST), MAKE)]
        self.tell(self.keys[0])

    def tell(self, key: Key) -> None:
        self.world.limits.keyring.change(key.id, entry_of(key))

    def ask(self, router: Router) -> None:
        key = entry_of(self.chance.choice(self.keys[-2:]))
        said = router.slices.reserve([BUDGET, key.budget], period=PERIOD, tokens=MOST)
        if isinstance(said, Short):
            self.refused += 1
        else:
            router.running.append(said)

    def draw(self, router: Router) -> None:
        super().draw(router)
        if self.chance.random() < 0.05:
            self.rotate()

    def rotate(self) -> None:
        self.rotations += 1
        old = self.keys[-1]
        new = KeyId("b" * (self.rotations % 9) + "c" * (10 - self.rotations % 9))
        made = decided(Key(new), self.succeeding(old))
        self.keys = [decided(old, RotateKey(actor="key:k", successor=new, expires_at_ms=T0 + 10**9)), made]
        for each in self.keys:
            self.tell(each)

    def _used(self, held: Held) -> RequestUsage:
        found = super()._used(held)
        assert self.spent <= OF_IT, f"overspent: {self.spent}"
        return found

    def succeeding(self, old: Key) -> CreateKey:
        return MAKE.model_copy(update={"budget": old.budget})


@pytest.mark.parametrize("seed", range(4))
def test_the_budget_of_a_key_is_never_overspent_however_often_it_is_rotated(seed: int) -> None:
    race = Keys(seed)

    race.run()

    assert race.spent > OF_IT // 4, "nothing was served: this proves nothing"
    assert race.rotations > 3


class Afresh(Keys):
    """The bug: a successor begins with a budget of its own."""

    def succeeding(self, old: Key) -> CreateKey:
        return MAKE


def test_a_rotation_that_begins_a_budget_anew_is_seen() -> None:
    assert caught(Afresh)


def drawn(world: World, number: int, *, needs: int) -> None:
    """A router draws on the key's budget."""
    draw = Draw(budget=OF_KEY, period=PERIOD, spent=0, returned=0, needs=needs, wants=needs)
    news = BudgetDrawn(instance="router-0", boot_id="b", draws=(draw,))
    world.hear(Envelope(EventId(f"draw-{number}"), news, subject="router-0", time_ms=T0))


def test_a_budget_of_a_key_that_is_spent_is_told_with_its_key() -> None:
    world = World()
    world.limits.keyring.change(FIRST, KeyEntry(
        key_id=FIRST, sha256="", tenant_id="acme", project_id="main", scopes=(), budget=OF_KEY, tokens_per_month=100
    ))  # fmt: skip

    drawn(world, 1, needs=101)

    (reached,) = [each for each in world.told() if isinstance(each, BudgetReached)]
    assert (reached.tenant_id, reached.project_id, reached.key_id) == ("acme", "main", FIRST)
    assert (reached.percent, reached.tokens_per_month) == (100, 100)


def test_tokens_served_from_a_slice_of_a_key_are_counted_there_and_of_no_other_project() -> None:
    world = World()
    world.hear(requested())
    own = usage("own").model_copy(update={"slices": (f"{OF_KEY}@{PERIOD}",)})
    foreign = usage("foreign").model_copy(update={"slices": (f"acme.side.{FIRST}@{PERIOD}",)})

    world.hear(batch([own, foreign]))

    assert {each.account for each in world.store.ledger.values()} == {
        "acme/main/ep-one", f"!budget/{OF_KEY}/{PERIOD}", "!parked/foreign"
    }  # fmt: skip


def test_a_budget_lives_as_long_as_any_key_that_spends_it() -> None:
    ring, entry = Keyring(), entry_of(decided(Key(FIRST), MAKE))
    ring.change(FIRST, entry)
    ring.change("bbbbbbbbbb", entry.model_copy(update={"key_id": "bbbbbbbbbb"}))

    ring.change(FIRST, None)
    assert ring.budgets() == [OF_KEY]
    assert ring.spender(OF_KEY) is not None
    ring.change("bbbbbbbbbb", None)

    assert (ring.budgets(), ring.spender(OF_KEY)) == ([], None)
