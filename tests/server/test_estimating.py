"""The estimate of a prompt: what weighs how much. How near it comes to real counts is tests/benchmarks' matter."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee.server.ask import read_ask
from flatfee.server.estimating import SAMPLE, TOKENS_PER_MEDIUM, estimate_text

PROSE = "The train was late again, and the people on the platform looked at their watches."


def shuffled(text: str, words: int) -> str:
    return " ".join(random.Random(7).choices(text.split(), k=words))


def tokens(content: object) -> int:
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    return read_ask({}, json.dumps(body).encode()).prompt_tokens


def test_no_text_is_no_token() -> None:
    assert estimate_text(b"") == 0


@given(st.binary(min_size=1, max_size=200))
def test_a_text_is_at_least_one_token_and_at_most_one_a_byte(text: bytes) -> None:
    assert 1 <= estimate_text(text) <= len(text)


def test_capitals_and_digits_weigh_more_than_words_and_spaces_hardly_anything() -> None:
    words, digits, capitals, spaces = (estimate_text(sign * 1000) for sign in (b"x", b"7", b"K", b" "))
    assert spaces * 4 < words < digits / 3 == capitals / 3


@pytest.mark.parametrize("words", [SAMPLE // 10, SAMPLE, SAMPLE * 50])
def test_a_long_text_has_as_many_tokens_for_its_length_as_a_short_one(words: int) -> None:
    text = shuffled(PROSE, words).encode()
    assert estimate_text(text) / len(text) == pytest.approx(estimate_text(PROSE.encode()) / len(PROSE), rel=0.05)


def test_rows_of_one_length_are_not_all_met_at_one_column() -> None:
    row = b"2026-03-14T09:26:53Z  the pump was started by the operator\n"
    assert all(0.6 < estimate_text(row * rows) / (rows * estimate_text(row)) < 1.6 for rows in range(100, 5000, 7))


@pytest.mark.parametrize(
    "text", ["Поезд опаздывал на сорок минут", "清晨的 集市 还很安静", "그날 아침 시장은 아직 조용했다."]
)
@pytest.mark.parametrize("words", [5, 5000])
def test_letters_that_are_escaped_weigh_as_much_as_those_that_are_not(text: str, words: int) -> None:
    text = shuffled(text, words)
    escaped = json.dumps(text)[1:-1].encode()
    assert estimate_text(escaped) == pytest.approx(estimate_text(text.encode()), rel=0.05, abs=1)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"format": "wav", "data": "UklGRiQA" * 10_000}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERi0x" * 10_000}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * 10_000}},
    ],
)
def test_data_counts_by_the_piece_and_the_text_beside_it_as_text(part: dict[str, object]) -> None:
    text = {"type": "text", "text": "x" * 20_000}
    assert tokens([text, part, part]) - tokens([text]) == pytest.approx(2 * TOKENS_PER_MEDIUM, abs=5)


def test_parts_without_number_are_not_gone_through() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:," + "A" * 1_000_000}}
    text = {"type": "text", "text": ""}
    assert tokens([image, text]) < 2 * TOKENS_PER_MEDIUM
    assert tokens([image, *[text] * 100_000]) - tokens([text] * 100_000) > 500_000
