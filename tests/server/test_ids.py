"""Request ids: unique, and ordered by time."""

import re

from hypothesis import given
from hypothesis import strategies as st

from flatfee.server.ids import request_id

moments = st.integers(0, 2**48 - 1)


def test_an_id_is_26_characters_of_base32_after_its_prefix() -> None:
    assert re.fullmatch(r"req_[0-9A-HJKMNP-TV-Z]{26}", request_id(1_793_534_400.123))


def test_an_id_spells_the_time_first_as_a_ulid_does() -> None:
    # The example in the README of the reference implementation, ulid.js.
    assert request_id(1469918176.385, lambda bits: 0) == "req_01ARYZ6S41" + "0" * 16
    assert request_id(0.0, lambda bits: 0) == "req_" + "0" * 26
    assert request_id((2**48 - 1) / 1000, lambda bits: 2**80 - 1) == "req_7" + "Z" * 25


@given(moments, moments)
def test_ids_are_ordered_as_their_milliseconds(first: int, second: int) -> None:
    least, most = (request_id(moment / 1000, lambda bits: 0) for moment in sorted((first, second)))
    assert (least < most) or first == second or int(first / 1000 * 1000) == int(second / 1000 * 1000)
    assert least <= most


def test_ids_of_one_moment_differ_by_chance() -> None:
    assert len({request_id(1.0) for _ in range(1000)}) == 1000


def test_80_bits_of_chance_are_asked_for() -> None:
    assert request_id(0.0, lambda bits: 2**bits - 1) == "req_" + "0" * 10 + "Z" * 16
