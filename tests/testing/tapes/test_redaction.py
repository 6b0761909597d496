"""Nothing that looks like a secret, or is known to be one, is left in what is kept; the rest is as it was."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from flatfee.server.configuration import parse_settings
from flatfee.testing.tapes.redaction import EMAIL, PATTERNS, REDACTED, Redaction, secrets_of

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

# In two parts where a scanner of this repository would take them for real.
SECRETS = {
    "sk-proj-Abc123def456": "OpenAI",
    "sk-ant-api03-abcdefgh": "Anthropic",
    "sk_live_" + "4eC39HqLyjWDarjt": "Stripe",
    "ff_proj_" + "0" * 43 + "abcdef": "flatfee",
    "ghp_0123456789abcdefABCDEF0123456789abcd": "GitHub",
    "github_pat_11ABCDEFG0123456789": "GitHub",
    "glpat-abcdefghij0123456789": "GitLab",
    "hf_abcdefghijklmnopqrst": "Hugging Face",
    "gsk_abcdefghijklmnopqrst": "Groq",
    "AKI" + "AIOSFODNN7EXAMPLE": "Amazon",
    "AIzaSyA0123456789abcdefghijklmnopqrstu": "Google",
    "xoxb-123456789012-abcdef": "Slack",
    "tvly-abcdefghij0123456789": "Tavily",
    "-----BEGIN PGP PRIVATE KE" + "Y BLOCK-----\nxcLY\n-----END PGP PRIVATE KE" + "Y BLOCK-----": "private key of PGP",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_DEF-123": "JSON web token",
    "-----BEGIN RSA PRIVATE KE" + "Y-----\nMIIE\nabc\n-----END RSA PRIVATE KE" + "Y-----": "private key",
}
MORE = ["Cookie: a=bcdef123", "x?key=abcdef123456", 'api_key="abc def"']
REDACTION = Redaction.of()


@pytest.mark.parametrize("secret", SECRETS, ids=SECRETS.values())
def test_what_looks_like_a_secret_is_taken_out_wherever_it_stands(secret: str) -> None:
    assert REDACTION.text(f"use {secret} now") == f"use {REDACTED} now"
    kept = REDACTION.json({secret: [{"text": f"<{secret}>"}], "arguments": json.dumps({"x": secret})})
    assert secret not in json.dumps(kept)
    assert json.dumps(secret)[1:-1] not in json.dumps(kept)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer [redacted]"),
        ("Basic dXNlcjpwYXNzd29yZDE=", "Basic [redacted]"),
        ("postgres://me:hunter2@db/x", "postgres://me:[redacted]@db/x"),
        ("postgres://me:hun@ter2@db/x", "postgres://me:[redacted]@db/x"),
        ("https://0123456789abcdef0123@errors.example/7", "https://[redacted]@errors.example/7"),
        ("https://maps.example/?key=abcdef123456&x=1", "https://maps.example/?key=[redacted]&x=1"),
        ("https://s3.example/a?X-Amz-Signature=9f86d081884c", "https://s3.example/a?X-Amz-Signature=[redacted]"),
        ("https://hooks.slack.com/services/T0/B0/abcdefghijklmnop", "https://hooks.slack.com/services/[redacted]"),
        ("Set-Cookie: session=abcdef123; Path=/", "Set-Cookie: [redacted]"),
        ('password = "correct horse battery"', 'password = "[redacted]"'),
        ('{"password": 123456}', '{"password": "[redacted]"}'),
        ('{\\"password\\": 123456}', '{\\"password\\": \\"[redacted]\\"}'),
        ("AccountKey=Eby8vdM02xNOcqF==;Suffix=core", "AccountKey=[redacted];Suffix=core"),
        ('{"api_key": "abcdef123"}', '{"api_key": "[redacted]"}'),
        ('{\\"client_secret\\": \\"abcdef123\\"}', '{\\"client_secret\\": \\"[redacted]\\"}'),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7", "AWS_SECRET_ACCESS_KEY=[redacted]"),
    ],
)
def test_what_tells_that_it_was_a_secret_stays(text: str, kept: str) -> None:
    assert REDACTION.text(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "a risk-assessment and a task-force on the basic principles of bearer shares",
        "max_tokens = 256, call_abc, chatcmpl-12345678, https://example.com/a?b=c",
        "keyboard, secretary: Ann; the password policy",
        '{"urls": ["http://example.com:8080", "me@example.com"]}',
        "https://example.com/?q=keys&token=short",
    ],
)
def test_prose_stays_as_it_is(text: str) -> None:
    assert REDACTION.text(text) == text


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"password": 123456}, {"password": REDACTED}),
        ({"Authorization": ["Bearer x", "y"]}, {"Authorization": [REDACTED, REDACTED]}),
        ({"credentials": "abc"}, {"credentials": REDACTED}),
        ({"password": {"type": "string"}}, {"password": {"type": "string"}}),
        ({"secret": None, "api_key": True, "passwd": ""}, {"secret": None, "api_key": True, "passwd": ""}),
    ],
)
def test_values_of_telling_names_are_taken_out(said: object, kept: object) -> None:
    assert REDACTION.json(said) == kept


def test_rest_of_a_secret_is_taken_out_whose_first_piece_looks_like_one() -> None:
    pieces = ["It is sk-proj-abcdefgh", "ijklmnop", "qrstuvwx", " now"]
    events: list[Any] = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    said = [event["choices"][0]["delta"]["content"] for event in REDACTION.events(events)]
    assert "".join(said) == f"It is {REDACTED} now"
    assert events[0]["choices"][0]["delta"]["content"] == pieces[0]  # what was given stays


@pytest.mark.parametrize(
    "piece",
    [
        "a-",
        "eyJabc-",
        "secret",
        "secret-",
        "-----BEGIN ",
        "://a:b",
        "bearer ",
        "a.",
        "sk-",
        "ghp_",
        '"api_key": ',
        "://",
        "://a-",
        "cookie: ",
        "?key=",
        'key="',
        'passwd="',
        "hooks.slack.com/services/",
    ],
)
def test_no_text_takes_longer_than_its_length(piece: str) -> None:
    """With time in proportion to its square, each of these would take very long."""
    redaction = Redaction.of(EMAIL)
    text = piece * (20_000 // len(piece))
    assert redaction.text(text)
    assert redaction.json({text: text})


def test_every_pattern_has_an_example() -> None:
    """A pattern that none of the texts above needs would be one that nobody has seen work."""
    texts = [*SECRETS, "Bearer abcdefgh12345", "x://me:hunter2@db", "api_key=abcdef123", *MORE]
    assert [
        name for name, found in PATTERNS.items() if not any(re.search(found, text, re.DOTALL) for text in texts)
    ] == []


def test_a_known_secret_is_taken_out_in_every_spelling() -> None:
    redaction = Redaction.of(secrets=['pa"ss/word-1'])
    for spelled in ('pa"ss/word-1', 'pa\\"ss/word-1', "pa%22ss%2Fword-1"):
        assert redaction.text(f"({spelled})") == f"({REDACTED})"
    assert "word-1" not in repr(redaction)


def test_a_short_known_secret_may_be_part_of_a_word() -> None:
    assert Redaction.of(secrets=["none"]).text("nonetheless, none") == f"nonetheless, {REDACTED}"


def test_every_secret_of_a_configuration_is_known() -> None:
    text = """
    providers = [{name = "a", kind = "openai", base_url = "http://x/v1", api_key_env = "A"}]
    routes = [{name = "r", provider = "a", model = "m", tier = "premium"}]
    plans = [{name = "p", fair_use = 1}]
    accounts = [{name = "x", plan = "p", projects = [{name = "y", keys = [{name = "k", key_env = "K"}]}]}]
    """
    env = {"A": "provider-secret", "K": "k" * 40, "FLATFEE_ADMIN_KEY": "a" * 40}
    assert sorted(secrets_of(parse_settings(text, source="here", env=env))) == sorted(env.values())


def test_values_of_telling_names_are_taken_out_and_schemas_are_not() -> None:
    schema = {"type": "object", "properties": {"password": {"type": "string"}}, "required": ["password"]}
    value = {"password": "x", "nested": [{"Authorization": "whatever it is"}], "parameters": schema}
    kept = REDACTION.json(value)
    assert kept == {"password": REDACTED, "nested": [{"Authorization": REDACTED}], "parameters": schema}


def test_authors_add_expressions_paths_and_functions() -> None:
    more: list[Any] = [r"ticket-\d+", "$.messages[*].name", "$.metadata.*", EMAIL, str.lower]
    value = {
        "messages": [{"name": "Ann", "content": "ticket-12 of ann@example.com"}, {"content": "Hello"}],
        "metadata": {"a": 1, "b": ["c"]},
    }
    assert Redaction.of(more).json(value) == {
        "messages": [{"name": "[redacted]", "content": "[redacted] of [redacted]"}, {"content": "hello"}],
        "metadata": {"a": "[redacted]", "b": "[redacted]"},
    }


@pytest.mark.parametrize(("wrong", "told"), [("(", "no regular expression"), ("$", "no path"), ("$.a b", "no path")])
def test_what_an_author_adds_is_checked(wrong: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Redaction.of(wrong)


def delta(text: str, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}}]}


def said(events: list[Any], index: int = 0) -> str:
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_a_secret_in_pieces_is_taken_out_of_a_stream(size: int) -> None:
    secret = "sk-canary-a1b2c3d4e5f6"
    text = f"Your keys are {secret} and {secret}, both."
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    kept = REDACTION.events([delta(piece) for piece in pieces])
    assert said(kept) == f"Your keys are {REDACTED} and {REDACTED}, both."
    assert len(kept) == len(pieces)


def test_choices_and_tool_calls_are_texts_of_their_own() -> None:
    call = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}}]}
        for part in ('{"key": "ghp_0123', '456789abcdef"}')
    ]
    kept = REDACTION.events([delta("sk-cana", 0), delta("ry-not-this", 1), delta("ry-12345", 0), *call])
    assert said(kept, 0) == REDACTED
    assert said(kept, 1) == "ry-not-this"
    arguments = [event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] for event in kept[3:]]
    assert "".join(arguments) == '{"key": "[redacted]"}'
