"""Keys: their form, and what is refused before any look-up."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee.server.keys import KeyKind, checksum, digest, new_key, shown, well_formed

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

every_kind = pytest.mark.parametrize("kind", list(KeyKind))


@every_kind
def test_a_key_has_its_kinds_prefix_43_characters_and_a_checksum(kind: KeyKind) -> None:
    key = new_key(kind)
    assert re.fullmatch(rf"ff_{kind}_[0-9A-Za-z]{{43}}[0-9A-Za-z]{{6}}", key)
    assert key.endswith(checksum(key[:-6]))
    assert well_formed(key)


def test_keys_differ() -> None:
    assert len({new_key(KeyKind.PROJECT) for _ in range(100)}) == 100


def test_a_checksum_is_the_crc32_in_base62_padded_to_six() -> None:
    # CRC-32 of "123456789" is 0xCBF43926, its check value; 3421780262 in base 62 is 3JZLXi.
    number, text = 0xCBF43926, ""
    while number:
        number, rest = divmod(number, 62)
        text = ALPHABET[rest] + text
    assert checksum("123456789") == text.rjust(6, "0")
    assert checksum("") == "000000"


@given(st.sampled_from(list(KeyKind)), st.data())
def test_any_mistyped_character_is_refused(kind: KeyKind, data: st.DataObject) -> None:
    key = new_key(kind)
    place = data.draw(st.integers(len(kind.prefix), len(key) - 1))
    other = data.draw(st.sampled_from(ALPHABET.replace(key[place], "")))
    assert not well_formed(key[:place] + other + key[place + 1 :])


@every_kind
def test_two_characters_swapped_are_refused(kind: KeyKind) -> None:
    key = new_key(kind)
    place = next(index for index in range(len(kind.prefix), len(key) - 1) if key[index] != key[index + 1])
    assert not well_formed(key[:place] + key[place + 1] + key[place] + key[place + 2 :])


@every_kind
def test_a_key_that_is_too_short_or_too_long_is_refused(kind: KeyKind) -> None:
    key = new_key(kind)
    assert not well_formed(key[:-1])
    assert not well_formed(key + "0")
    longer = key[:-6] + "0"
    assert not well_formed(longer + checksum(longer))


def test_a_key_of_another_kind_does_not_keep_its_checksum() -> None:
    assert not well_formed(new_key(KeyKind.PROJECT).replace("ff_proj_", "ff_admin_"))


@pytest.mark.parametrize(
    ("secret", "accepted"),
    [
        ("x" * 32, True),
        ("x" * 31, False),
        ("x" * 512, True),
        ("x" * 513, False),
        ("", False),
        ("ff_" + "x" * 40, False),
        ("ff_live_" + "x" * 49, False),
        ("FF_" + "x" * 40, True),
        ("ü" * 32, False),
        ("sk-" + "a1_." * 10, True),
    ],
)
def test_an_own_secret_has_32_to_512_ascii_characters_without_our_prefix(secret: str, accepted: bool) -> None:
    assert well_formed(secret) is accepted


def test_a_digest_is_sha256() -> None:
    assert digest("secret") == hashlib.sha256(b"secret").digest()


@given(st.text())
def test_any_text_is_accepted_or_refused_without_a_crash(text: str) -> None:
    well_formed(text)


def test_what_may_be_a_key_is_not_repeated() -> None:
    assert shown("acme") == "'acme'"
    assert shown("x" * 100, 40) == repr("x" * 40)
    assert "ff_proj_" not in shown(new_key(KeyKind.PROJECT))
