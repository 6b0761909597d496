"""Which tools the simulated model calls, and with what. Pure.

A tool that the last user message names as a word is called, all of them if calls may be parallel; else the
first. Arguments are the smallest that fit. What the message gives as JSON, or as ``name=value``, is
used instead where it fits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

from flatfee.server.providers.simulation.ask import Ask
from flatfee.server.providers.simulation.conversation import last_said
from flatfee.server.providers.simulation.offers import Tool, bad_schema
from flatfee.server.providers.simulation.schema import UnanswerableError, text_for

_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_PAIR: Final = re.compile(r'([A-Za-z0-9_-]{1,64})=("[^"]{0,400}"|[^\s,;"]{1,400})')
_MOST_READ: Final = 10_000
"""Characters of a message in which names and values are looked for."""
_MOST_VALUES: Final = 8
_PLAIN_INPUT: Final = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: ``given`` is a function's arguments as JSON, or a custom tool's input."""

    identity: str
    name: str
    given: str
    custom: bool


def calls_of(ask: Ask) -> list[Call]:
    """Return the calls that a choice begins with; none where the model answers in words.

    Raises:
        RefusedError: no arguments were found for a tool.
    """
    offer = ask.offer
    in_loop = ask.messages[-1]["role"] in {"tool", "function"}
    if not offer.tools or offer.mode == "none" or (in_loop and offer.mode == "auto"):
        return []
    said = last_said(ask.messages)[:_MOST_READ]
    return [_call(ask, tool, said, index) for index, tool in enumerate(_called(ask, said))]


def _called(ask: Ask, said: str) -> Sequence[Tool]:
    words = {word.rstrip(".:-") for word in _WORD.findall(said)}
    named = [tool for tool in ask.offer.tools if tool.name in words]
    return (named if ask.offer.parallel else named[:1]) or ask.offer.tools[:1]


def _call(ask: Ask, tool: Tool, said: str, index: int) -> Call:
    given = _input(ask, tool) if tool.schema is None else _arguments(tool, said)
    # A conversation has each identity once: it tells how far the conversation is, and which call this is.
    origin = f"{ask.seed} {len(ask.messages)} {index} {tool.name} {given}"
    digest = hashlib.sha256(origin.encode()).hexdigest()[:24]
    return Call(identity=f"call_{digest}", name=tool.name, given=given, custom=tool.schema is None)


def _input(ask: Ask, tool: Tool) -> str:
    if tool.grammar is None:
        return _PLAIN_INPUT
    try:
        return text_for(tool.grammar, ask.budget)
    except UnanswerableError as error:
        raise bad_schema(f"custom tool {tool.name!r}", tool.param, error, "invalid_value") from error


def _arguments(tool: Tool, said: str) -> str:
    assert tool.schema is not None  # noqa: S101 - told by the caller
    for value in islice(_objects(said), _MOST_VALUES):
        if tool.schema.fits(value):
            return _json(value)
    try:
        found = tool.schema.instance(as_object=True)
    except UnanswerableError as error:
        raise bad_schema(f"function {tool.name!r}", tool.param, error, "invalid_function_parameters") from error
    for name, value in islice(_pairs(said, tool.properties), _MOST_VALUES):
        if tool.schema.fits({**found, name: value}):
            found = {**found, name: value}
    return _json(found)


def _objects(said: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text that are not empty."""
    decoder, start = json.JSONDecoder(), said.find("{")
    for _ in range(_MOST_VALUES):
        if start < 0:
            return
        try:
            value, end = decoder.raw_decode(said, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if value:
                yield value
        start = said.find("{", end)


def _pairs(said: str, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what ``name=value`` may mean: as JSON, and as a text."""
    for match in _PAIR.finditer(said):
        name, written = match.groups()
        if name not in names:
            continue
        text = written.strip('"').rstrip(".")
        with suppress(msgspec.DecodeError, RecursionError):
            yield name, msgspec.json.decode(text)
        yield name, text


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
