"""What of a provider's answer is read whatever its shape: usage, errors, receipts. Sans I/O."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from flatfee.server.answers.lenient import UNREADABLE, decoded
from flatfee.server.statement import UsedTokens

MAX_TOKENS: Final = 10_000_000
"""More tokens than this in one answer are not believed; the gateway's own estimate counts then."""


class UnusableAnswer(Exception):
    """The provider's answer is not what its API promises; the message says what is wrong with it."""


_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: Raw | UnsetType = UNSET
    prompt_tokens_details: Raw | UnsetType = UNSET
    completion_tokens_details: Raw | UnsetType = UNSET
    prompt_cache_hit_tokens: Raw | UnsetType = UNSET  # DeepSeek's name for the cached ones
    cached_tokens: Raw | UnsetType = UNSET  # Moonshot's


class _UsualUsage(msgspec.Struct, gc=False):
    """Usage as OpenAI tells it; other names of the cached tokens are only noticed."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: int
    prompt_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: Raw | UnsetType = UNSET
    cached_tokens: Raw | UnsetType = UNSET


_usual = msgspec.json.Decoder(_UsualUsage)
_usage = msgspec.json.Decoder(_Usage)
_details = msgspec.json.Decoder(_Details)
_NO_DETAILS: Final = _Details()
members = msgspec.json.Decoder(dict[str, Raw])


BROKEN_OFF: Final = frozenset({"error", "insufficient_system_resource", "abort"})
"""Finish reasons of answers that are not whole: OpenRouter's, DeepSeek's and SGLang's (``providers.rows``)."""


def is_error(error: Raw | UnsetType) -> bool:
    """Tell whether a member ``error`` says that there is one."""
    return error is not UNSET and bytes(error) not in {b"null", b"{}", b"[]", b'""', b"false"}


def size_of(value: Raw | UnsetType) -> int:
    """Return the size of a JSON value without its quotes or brackets; 0 if it is absent, null or a number."""
    if value is UNSET:
        return 0
    text = memoryview(value)
    return len(text) - 2 if text[0] in b'"[{' else 0


def told_usage(usage: Raw | UnsetType) -> UsedTokens | None:
    """Return the usage that a provider told; ``None`` if it told none, or figures that cannot be."""
    if usage is UNSET:
        return None
    try:
        found = _usual.decode(usage)
    except UNREADABLE:
        return any_usage(usage)
    prompt, output = found.prompt_tokens, found.completion_tokens
    named_otherwise = found.cached_tokens is not UNSET or found.prompt_cache_hit_tokens is not UNSET
    if named_otherwise or found.total_tokens != prompt + output:
        return any_usage(usage)
    details = found.prompt_tokens_details
    cached = details.cached_tokens or 0 if details is not None else 0
    return UsedTokens(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)


def any_usage(usage: Raw) -> UsedTokens | None:
    """Return what usage comes to, told in any of the ways that providers have; the usual one is read sooner."""
    if not size_of(usage):
        return None
    try:
        found = _usage.decode(usage)
    except UNREADABLE:
        return None
    if found.prompt_tokens is None and found.completion_tokens is None:
        return None
    return UsedTokens(
        prompt_tokens=found.prompt_tokens or 0,
        completion_tokens=_output(found),
        cached_tokens=_cached(found),
    )


def _output(found: _Usage) -> int:
    """Return the tokens of an answer. xAI and Gemini count those of reasoning apart, as their totals show.

    xAI tells them by their name, Gemini only in the total (``providers.rows``).
    """
    output = found.completion_tokens or 0
    beside = _count(found.total_tokens) - (found.prompt_tokens or 0) - output
    if not 0 < beside <= MAX_TOKENS - output:
        return output
    if size_of(found.completion_tokens_details):
        apart = beside == _detailed(found.completion_tokens_details).reasoning_tokens
    else:
        apart = beside != _cached(found)  # where those were not within the prompt's
    return output + beside if apart else output


def _cached(found: _Usage) -> int:
    return (
        _detailed(found.prompt_tokens_details).cached_tokens
        or _count(found.prompt_cache_hit_tokens)
        or _count(found.cached_tokens)
    )


def _detailed(details: Raw | UnsetType) -> _Details:
    """Return the details of a count; none if the provider told none, or something odd."""
    if details is UNSET or not size_of(details):
        return _NO_DETAILS
    try:
        return _details.decode(details)
    except UNREADABLE:
        return _NO_DETAILS


def _count(told: Raw | UnsetType) -> int:
    """Return a count that a provider told; 0 if it told none, or something odd."""
    text = b"" if told is UNSET else bytes(told)
    return int(text) if text.isdigit() and len(text) < 10 else 0


def splice(data: bytes, receipt: bytes) -> bytes:
    """Put the receipt into a JSON object as its last member, touching nothing else."""
    head = data.rstrip()[:-1].rstrip()
    comma = b"" if head.endswith(b"{") else b","
    return b"".join([head, comma, b'"flatfee":', receipt, b"}"])


def without_receipt(data: bytes) -> bytes:
    """Take a receipt out of a JSON object; out of one that cannot be read, nothing."""
    try:
        found = decoded(members, data)
    except UNREADABLE:
        return data
    found.pop("flatfee", None)
    return msgspec.json.encode(found)
