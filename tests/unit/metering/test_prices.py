"""The price book that an operator edits: the example reads, exactly, and a mistake is one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.errors import Invalid
from services.metering.core.rating import ANY, Article, Price
from services.metering.shell.prices import read_prices

EXAMPLE = Path(__file__).parents[3] / "deploy" / "catalogue" / "prices.yaml"


def test_the_example_reads_as_whole_nano_units() -> None:
    book = read_prices(EXAMPLE)

    assert (book.id, book.currency) == ("example-1", "USD")
    assert book.prices[Article("prompt_tokens")] == Price(50_000_000, per=1_000_000)
    assert book.prices[Article("gpu_ms/serving", ANY, "h100-dedicated")] == Price(2_490_000_000, per=3_600_000)


def test_the_most_exact_price_counts() -> None:
    book = read_prices(EXAMPLE)

    assert book.priced_as(Article("prompt_tokens", "millrace/ngram-1-large", "h100-dedicated")) == Article(
        "prompt_tokens", "millrace/ngram-1-large"
    )
    assert book.priced_as(Article("prompt_tokens", "millrace/ngram-1", "h100-dedicated")) == Article("prompt_tokens")
    assert book.priced_as(Article("requests")) is None


@pytest.mark.parametrize(
    ("was", "is_", "says"),
    [
        ('"0.05"', "0.05", "prices.0.price"),
        ('"0.05"', '"0.0000000001"', "prices.0.price"),
        ('"0.05"', '"-1"', "prices.0.price"),
        ('"0.05", per: million', '"0.05", per: 0', "prices.0.per"),
        ('"0.05", per: million', '"0.05", per: hour', "not time"),
        ('"0.05", per: million', '"0.05", per: gib_hour', "no storage"),
        ('"0.00014", per: gib_hour', '"0.00014", per: hour', "not time"),
        ("meter: prompt_tokens, price", "meter: tokens, price", "no meter tokens"),
        ("gpu_ms/loading", "gpu_ms", "no meter gpu_ms;"),
        ("gpu_ms/serving, tier: h100", "gpu_ms/loading, tier: h100", "two prices for gpu_ms/loading"),
        ("version: 1", "version: 2", "version"),
        ("version: 1", "version: [", "prices .*: while parsing"),
        ("currency: USD", "currency: dollars", "currency"),
        ("id: example-1", "name: example-1", "id: Field required"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, was: str, is_: str, says: str) -> None:
    text = EXAMPLE.read_text()
    assert was in text
    path = tmp_path / "prices.yaml"
    path.write_text(text.replace(was, is_))

    with pytest.raises(Invalid, match=says) as refused:
        read_prices(path)

    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="MILLRACE_PRICES_FILE"):
        read_prices(tmp_path / "none.yaml")
