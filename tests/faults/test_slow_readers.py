"""Slow readers, the short version, and that it sees a gateway that reads on."""

from __future__ import annotations

import zlib

import pytest
from tests.faults import speech
from tests.faults.firehose import Listening, end_of, piece
from tests.faults.slow_readers import run_slow_readers

pytestmark = pytest.mark.faults

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def said(*texts: str) -> bytes:
    events = [speech.event(speech.delta({"content": text})) for text in texts]
    return HEAD + b"".join(speech.chunked([*events, speech.STOP, speech.DONE])) + speech.LAST_CHUNK


def whole(count: int) -> list[str]:
    texts = [piece(place) for place in range(count)]
    return [*texts, end_of(count, zlib.crc32("".join(texts).encode()))]


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_an_answer_is_put_together_from_any_pieces(size: int) -> None:
    listening, sent = Listening(), said(*whole(3))
    for start in range(0, len(sent), size):
        listening.take(sent[start : start + size])
    assert listening.whole


@pytest.mark.parametrize("missing", range(4))
def test_a_hole_in_an_answer_is_seen(missing: int) -> None:
    listening, texts = Listening(), whole(3)
    listening.take(said(*texts[:missing], *texts[missing + 1 :]))
    assert not listening.whole


def test_callers_that_stop_reading_stop_the_provider_and_cost_little() -> None:
    figures = run_slow_readers(100, still=4.0)
    assert figures.wrong == []
    assert figures.whole == 50


def test_a_gateway_that_reads_on_is_found() -> None:
    figures = run_slow_readers(20, still=1.0, broken=["backpressure"])
    assert any("got rid of" in text for text in figures.wrong)
    assert any("of memory" in text for text in figures.wrong)
