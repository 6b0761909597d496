"""The event decoder: bytes in, events out, whatever the cut."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee.client.sse import Decoder, Event
from flatfee.errors import APIResponseValidationError


def decode(*chunks: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.flush()


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_of_the_standard_ends_a_line(end: Any) -> None:
    assert decode(b"data: a" + end + end + b"data: b" + end + end) == [Event(b"a"), Event(b"b")]


def test_an_event_is_out_as_soon_as_its_empty_line_is_in() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [Event(b"a")]
    assert decoder.feed(b"data: b\r\r") == [Event(b"b")]
    assert decoder.feed(b"\ndata: c\n\n") == [Event(b"c")]


def test_a_cr_and_its_lf_in_two_chunks_are_one_line_end() -> None:
    assert decode(b"data: a\r", b"\ndata: b\r", b"", b"\n\r\n") == [Event(b"a\nb")]
    assert decode(b"data: a\r", b"\ndata: b\n\n") == [Event(b"a\nb")]


def test_comments_and_unknown_fields_are_skipped() -> None:
    assert decode(b": keep-alive\n\nid: 7\nretry: 10\n: x\ndata: a\n\n:\n\n") == [Event(b"a")]


def test_data_of_several_lines_is_joined_by_a_line_feed() -> None:
    assert decode(b"data: a\ndata:b\ndata\ndata:  c\n\n") == [Event(b"a\nb\n\n c")]


def test_the_name_of_an_event_is_kept() -> None:
    assert decode(b"event: error\ndata: {}\n\ndata: x\n\n") == [Event(b"{}", b"error"), Event(b"x")]


def test_an_event_without_data_is_none() -> None:
    assert decode(b"event: ping\n\n\n\n\ndata: a\n\n") == [Event(b"a")]


def test_a_byte_order_mark_is_skipped() -> None:
    assert decode(b"\xef\xbb", b"\xbfdata: a\n\n") == [Event(b"a")]


def test_an_event_is_read_at_the_end_even_without_its_empty_line() -> None:
    assert decode(b"data: a\n\ndata: [DONE]") == [Event(b"a"), Event(b"[DONE]")]
    assert decode(b"data: a\n\n", b"") == [Event(b"a")]


def test_a_ten_megabyte_event_survives() -> None:
    text = b"x" * 10_000_000
    chunks = [text[i : i + 65536] for i in range(0, len(text), 65536)]
    assert decode(b"data: ", *chunks, b"\n\n") == [Event(text)]


@pytest.mark.parametrize("chunks", [[b"data: 0123456789"], [b"data: 01234", b"56789"], [b"data: 0123456789\n\n"]])
def test_an_event_above_the_limit_is_refused(chunks: Any) -> None:
    decoder = Decoder(max_event_bytes=12)
    with pytest.raises(APIResponseValidationError, match="larger than 12 bytes"):
        _ = [decoder.feed(chunk) for chunk in chunks]


@given(
    texts=st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), max_size=5),
    end=st.sampled_from([b"\n", b"\r", b"\r\n"]),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_where_the_bytes_are_cut_makes_no_difference(texts: Any, end: Any, cuts: Any) -> None:
    wire = b"".join(b": hi" + end + b"data: " + text.encode() + end + b"data: 2" + end + end for text in texts)
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    chunks = [wire[a:b] for a, b in pairwise(edges)]
    assert decode(*chunks) == [Event(text.encode() + b"\n2") for text in texts]
