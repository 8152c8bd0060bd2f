"""What a receiver can't take any more is parked with its reason; what may be there already is not sent again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from libs.common.events.usage import Meter as MeterName
from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from services.metering.core.exports.lago import decimal_text
from services.metering.core.exports.receiver import Limits, Receiver
from services.metering.core.exports.state import Code, Reason, Sold
from services.metering.shell.exporting import Exporting
from tests.unit.metering.exports.books import CODES, Books, receiver_of, sender_to
from tests.unit.metering.exports.receivers import Billing, Fault, OpenMeterServer, StripeServer
from tests.unit.metering.world import T0


@pytest.fixture
def stripe() -> Iterator[Billing]:
    """A Stripe."""
    with StripeServer() as billing:
        yield billing


def to_stripe(books: Books, billing: Billing, customers: dict[str, str] | None = None) -> Exporting:
    """An export to it, which shares our clock."""
    billing.now_ms = books.clock.now_ms
    return books.export(receiver_of("stripe", customers=customers), sender_to("stripe", billing.url))


def reasons(export: Exporting) -> list[Reason | None]:
    """Why what is parked is parked."""
    return [each.parked for each in export.parked()]


def test_a_window_older_than_35_days_is_parked_and_never_sent(stripe: Billing) -> None:
    books = Books()
    books.tell(5, start_ms=T0 - 36 * DAY_MS)
    books.tell(7, start_ms=T0 - 34 * DAY_MS)
    export = to_stripe(books, stripe)

    books.settle(export)

    assert list(stripe.sums().values()) == [7]
    assert reasons(export) == [Reason.TOO_OLD]


def test_less_is_cancelled_within_a_day_and_added_again(stripe: Billing) -> None:
    books = Books()
    books.tell(10)
    export = to_stripe(books, stripe)
    books.settle(export)
    books.clock.advance(23 * HOUR_MS)

    books.tell(4)
    books.settle(export)

    assert sorted(each[2] for each in stripe.accepted.values()) == [0, 4]


def test_less_after_a_day_is_parked_as_a_credit_to_give(stripe: Billing) -> None:
    books = Books()
    books.tell(10)
    export = to_stripe(books, stripe)
    books.settle(export)
    books.clock.advance(25 * HOUR_MS)

    books.tell(4)
    books.settle(export)

    assert reasons(export) == [Reason.TOO_LATE_TO_TAKE_BACK]
    assert [each.held - each.quantity for each in export.parked()] == [6]
    assert list(stripe.sums().values()) == [10]


def test_a_later_revision_that_can_be_told_ends_the_parking(stripe: Billing) -> None:
    books = Books()
    books.tell(10)
    export = to_stripe(books, stripe)
    books.settle(export)
    books.clock.advance(25 * HOUR_MS)
    books.tell(4)
    books.settle(export)

    books.tell(12)
    books.settle(export)

    assert stripe.sums() == books.truth()
    assert reasons(export) == []


def test_an_old_window_is_not_cancelled_if_its_rest_could_not_be_added_again(stripe: Billing) -> None:
    books = Books()
    books.tell(10, start_ms=T0 - 35 * DAY_MS + HOUR_MS)
    export = to_stripe(books, stripe)
    books.settle(export)
    books.clock.advance(2 * HOUR_MS)

    books.tell(4, start_ms=T0 - 35 * DAY_MS + HOUR_MS)
    books.settle(export)

    assert list(stripe.sums().values()) == [10]
    assert reasons(export) == [Reason.TOO_OLD]


def test_a_tenant_without_a_customer_waits_until_it_has_one(stripe: Billing) -> None:
    books = Books()
    books.tell(5)
    export = to_stripe(books, stripe, customers={"other": "cus_2"})
    books.settle(export)
    assert reasons(export) == [Reason.NO_CUSTOMER]

    export = to_stripe(books, stripe, customers={"acme": "cus_1"})
    export.redrive()
    books.settle(export)

    assert stripe.sums() == books.truth()


def test_a_sending_in_doubt_for_longer_than_ids_are_known_is_parked_not_doubled(stripe: Billing) -> None:
    books = Books()
    key = books.tell(5)
    export = to_stripe(books, stripe)
    stripe.faults.extend([Fault.CUT_AFTER_ACCEPT])
    while not stripe.calls:
        export.run()
    books.clock.advance(3 * DAY_MS)
    stripe.forget()

    books.settle(export)

    assert stripe.doubled == []
    assert reasons(export) == [Reason.UNKNOWN_OUTCOME]
    assert export.redrive() == 0  # Nobody may send it again before somebody looked.

    export.resolve(key, is_there=True)
    books.settle(export)
    assert stripe.sums() == books.truth()
    assert reasons(export) == []


def test_what_is_resolved_as_missing_is_sent_again(stripe: Billing) -> None:
    books = Books()
    key = books.tell(5)
    export = to_stripe(books, stripe)
    stripe.faults.extend([Fault.CUT_BEFORE])
    while not stripe.calls:
        export.run()
    books.clock.advance(3 * DAY_MS)
    books.settle(export)

    export.resolve(key, is_there=False)
    books.settle(export)

    assert stripe.sums() == books.truth()


def test_a_refusal_after_doubt_says_nothing_of_the_sending_before(stripe: Billing) -> None:
    books = Books()
    books.tell(5)
    export = to_stripe(books, stripe)
    stripe.faults.extend([Fault.CUT_AFTER_ACCEPT])
    while not stripe.calls:
        export.run()
    stripe.unknown_customers.add("cus-acme")

    books.settle(export)

    assert reasons(export) == [Reason.UNKNOWN_OUTCOME]
    assert stripe.sums() == books.truth()


def test_a_receiver_that_dedupes_nothing_is_never_asked_twice() -> None:
    with OpenMeterServer() as billing:
        books = Books()
        books.tell(5)
        receiver = Receiver("openmeter", Limits(True, 100, dedupes_ms=0), {}, CODES, 0, "cus-{tenant}")
        export = books.export(receiver, sender_to("openmeter", billing.url))
        billing.faults.append(Fault.CUT_AFTER_ACCEPT)

        books.settle(export)

        assert billing.calls == 1
        assert reasons(export) == [Reason.UNKNOWN_OUTCOME]


def test_what_is_not_sold_there_and_what_began_before_is_not_sent(stripe: Billing) -> None:
    books = Books()
    books.tell(5, meter=MeterName.REQUESTS)
    books.tell(6, start_ms=T0 - 10 * MINUTE_MS)
    books.tell(7, start_ms=T0 - 10 * SECOND_MS)
    receiver = Receiver(
        "stripe", receiver_of("stripe").limits, {}, {"prompt_tokens": Code("t")}, T0 - MINUTE_MS, "c-{tenant}-{project}"
    )
    export = books.export(receiver, sender_to("stripe", stripe.url))

    books.settle(export)

    assert stripe.sums() == {("t", T0 - 10 * SECOND_MS): 7}
    assert {each[0] for each in stripe.accepted.values()} == {"c-acme-main"}

    export.backfill(T0 - 20 * MINUTE_MS)
    books.settle(export)
    assert sorted(stripe.sums().values()) == [6, 7]


def test_one_that_never_gets_through_does_not_stand_before_the_others(stripe: Billing) -> None:
    books = Books()
    for number in range(6):
        books.tell(number + 1, start_ms=T0 - (number + 1) * 10 * SECOND_MS)
    export = to_stripe(books, stripe)
    receive = stripe.receive

    def breaks_on_six(path: str, content: bytes) -> tuple[int, object]:
        return (500, None) if b"%5D=6" in content else receive(path, content)

    stripe.receive = breaks_on_six  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="come to rest"):
        books.settle(export, for_ms=2 * HOUR_MS)

    assert sorted(stripe.sums().values()) == [1, 2, 3, 4, 5]


def test_a_project_may_have_a_customer_of_its_own() -> None:
    receiver = Receiver("x", receiver_of("stripe").limits, {"acme/main": "p", "acme": "t"}, {}, 0)

    assert receiver.customer_of(Sold(tenant_id="acme", project_id="main")) == "p"
    assert receiver.customer_of(Sold(tenant_id="acme", project_id="other")) == "t"
    assert receiver.customer_of(Sold(tenant_id="else", project_id="main")) == ""


@pytest.mark.parametrize(
    ("quantity", "text"),
    [(3_600_000, "1"), (1_800_000, "0.5"), (60_000, "0.016666666667"), (-60_000, "-0.016666666667"), (0, "0")],
)
def test_hours_are_decimals_made_of_whole_numbers(quantity: int, text: str) -> None:
    assert decimal_text(quantity, 3_600_000) == text
