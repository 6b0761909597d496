"""The bytes of an answer."""

from __future__ import annotations

import pytest

from flatfee.server.http.framing import chunk, head


def test_a_head_has_a_line_for_each_header_and_ends_with_an_empty_one() -> None:
    assert (
        head(200, [(b"a", b"1"), (b"b", b"2 \xfc")], b"c: 3") == b"HTTP/1.1 200 OK\r\na: 1\r\nb: 2 \xfc\r\nc: 3\r\n\r\n"
    )
    assert head(204, []) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_a_status_without_a_name_has_none() -> None:
    assert head(299, ()) == b"HTTP/1.1 299 \r\n\r\n"


@pytest.mark.parametrize("bad", [b"\r\nevil: 1", b"\n", b"\r", b"\0", b"\x1f", b"\x7f"])
@pytest.mark.parametrize("where", ["name", "value"])
def test_a_header_that_would_be_another_is_not_sent(bad: bytes, where: str) -> None:
    pair = (b"a" + bad, b"1") if where == "name" else (b"a", b"1" + bad)
    with pytest.raises(RuntimeError, match="control character"):
        head(200, [pair])


def test_a_tab_is_no_control_character_of_a_value() -> None:
    assert b"a: 1\t2\r\n" in head(200, [(b"a", b"1\t2")])


def test_an_empty_part_is_no_chunk_for_it_would_end_the_body() -> None:
    assert (chunk(b""), chunk(b"x" * 17)) == (b"", b"11\r\n" + b"x" * 17 + b"\r\n")
