"""Patterns: read into languages that know their shortest texts, and never go back over a text."""

import re
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatfee.server.providers.simulation.schema.budget import Budget, SpentError, UnanswerableError
from flatfee.server.providers.simulation.schema.language import Languages
from flatfee.server.providers.simulation.schema.pattern import read_pattern
from flatfee.server.providers.simulation.schema.texts import TextRules, Texts

PYTHONS = [
    "^abc$",
    "a|b",
    "^[a-z]+$",
    r"^\d{3}-\d{4}$",
    r"^(?=.*[A-Z])(?=.*\d).{8,}$",
    "^(a+)+$",
    r"\bfoo\b",
    r"\Bfoo",
    "^(?!foo)[a-z]{3,}$",
    "^[^aeiou]{2}$",
    r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$",
    "",
    "^$",
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",
    r"^(?:[01]\d|2[0-3]):[0-5]\d$",
    "(x(?=y)|z)y",
    r"^[\w.+-]+@[\w-]+\.[a-z]{2,}$",
    "^(?P<year>[0-9]{4})$",
    r"\A[a-c-]{2}\Z",
    r"^\x41é\t[\]\\-]{1,2}\s\S\W\D$",
    "^a{2,}b{,3}c{x}$",
    "^a*?b+?c??$",
    "^.{3}$",
    r"^[\]a]$",
    "(a?){9}b",
    r"^[\d\-x]+[^\s]$",
    "^(?!.*--).*$",
]
ECMAS = {  # with the shortest text of each
    r"^\p{Lu}\p{Ll}+$": "Aa",
    r"^\p{Script_Extensions=Nd}\P{L}$": "00",
    r"^\u0041\u{1F600}\uD83D\uDE00\cA\0$": "A😀😀\x01\0",
    "^[^]$": "a",
    r"^(?<year>\d)$": "0",
}


def shortest(pattern: str, count: int = 3) -> list[str]:
    languages = Languages(Budget(1_000_000))
    return list(islice(languages.words(read_pattern(pattern, languages)), count))


def finds(pattern: str, text: str) -> bool:
    languages = Languages(Budget(1_000_000))
    return languages.matches(read_pattern(pattern, languages), text)


@pytest.mark.parametrize("pattern", PYTHONS)
def test_the_shortest_texts_of_a_pattern_match_it(pattern: str) -> None:
    found = shortest(pattern)
    assert found
    for text in found:
        assert re.search(pattern.replace("{,3}", r"\{,3\}"), text), text
        assert finds(pattern, text)


@pytest.mark.parametrize(("pattern", "text"), ECMAS.items())
def test_what_only_ecma_knows_is_read(pattern: str, text: str) -> None:
    assert shortest(pattern, 1) == [text]
    assert finds(pattern, text)


@given(st.sampled_from(PYTHONS), st.text("ab0-AZ@. \tfoxyz", max_size=9))
def test_it_finds_what_pythons_engine_finds(pattern: str, text: str) -> None:
    assert finds(pattern, text) == bool(re.search(pattern.replace("{,3}", r"\{,3\}"), text))


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "')' is missing"),
        ("a)", "without its '('"),
        ("[a", "ends too early"),
        ("*a", "nothing before it"),
        ("a**", "two repetitions"),
        ("a{3,2}", "wrong way round"),
        ("[z-a]", "wrong way round"),
        ("a{1234567890}", "beyond counting"),
        (r"(a)\1", "backreference"),
        (r"(?<n>a)\k<n>", "backreference"),
        ("(?<=a)b", "lookbehind"),
        ("(?i)a", "not followed"),
        ("(?=a)*", "lookahead that is repeated"),
        (r"\p{Klingon}", "'Klingon'"),
        (r"\xZZ", "hexadecimal"),
        (r"\u{110000}", "beyond Unicode"),
        ("(?<name", "'>' is missing"),
        ("a\\", "ends too early"),
        ("(" * 60 + ")" * 60, "within each other"),
    ],
)
def test_what_cannot_be_read_is_told(pattern: str, why: str) -> None:
    with pytest.raises(UnanswerableError) as raised:
        Texts(Budget()).finds(pattern, "a", "/properties/x")
    assert raised.value.where == "/properties/x/pattern"
    assert why in raised.value.why


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "(.*a){9}$", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_no_pattern_is_catastrophic(pattern: str) -> None:
    budget = Budget(60_000)
    Texts(budget).finds(pattern, "a" * 40 + "!", "")
    assert budget.left > 0


def test_a_language_too_large_to_search_spends_its_budget() -> None:
    with pytest.raises(SpentError):
        list(Texts(Budget(20_000)).values(TextRules(patterns=[("^.*a.{20}b.*c.{20}$", ""), ("^.{200}$", "")]), 1))


def test_texts_keep_length_patterns_and_bans_at_once() -> None:
    rules = TextRules(least=3, most=4, patterns=[("^[ab]+$", ""), ("a$", "")], banned=[("aa", "")])
    found = list(islice(Texts(Budget()).values(rules, 9), 9))
    assert found[0] == "aba"
    assert len(set(found)) == len(found) == 5
    for text in found:
        assert re.fullmatch("[ab]{2,3}a", text)
        assert "aa" not in text
