"""Which tools the simulated model calls, and with what. Pure.

A tool that the last user message names as a word is called, all of them if calls may be parallel; else the
first. Arguments are the smallest that fit. What the message gives as JSON, as ``name=value``, as a number
or in quotation marks is used instead where it fits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from flatfee.server.providers.simulation import reading
from flatfee.server.providers.simulation.ask import Ask
from flatfee.server.providers.simulation.conversation import last_said
from flatfee.server.providers.simulation.offers import Tool, bad_schema
from flatfee.server.providers.simulation.reading import Given, meanings
from flatfee.server.providers.simulation.schema import JsonSchema, UnanswerableError, text_for

_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]+")
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
    said = last_said(ask.messages)[: reading.MOST_READ]
    given = reading.read(said)
    return [_call(ask, tool, given, index) for index, tool in enumerate(_called(ask, said))]


def _called(ask: Ask, said: str) -> Sequence[Tool]:
    words = {word.rstrip(".:-") for word in _WORD.findall(said)}
    named = [tool for tool in ask.offer.tools if tool.name in words]
    return (named if ask.offer.parallel else named[:1]) or ask.offer.tools[:1]


def _call(ask: Ask, tool: Tool, given: Given, index: int) -> Call:
    ask.budget.spend(1 + len(given.pairs) // 16)
    taken = _input(ask, tool) if tool.schema is None else _arguments(tool, tool.schema, given)
    # A conversation has each identity once: it tells how far the conversation is, and which call this is.
    origin = f"{ask.seed} {len(ask.messages)} {index} {tool.name} {taken}"
    digest = hashlib.sha256(origin.encode()).hexdigest()[:24]
    return Call(identity=f"call_{digest}", name=tool.name, given=taken, custom=tool.schema is None)


def _input(ask: Ask, tool: Tool) -> str:
    if tool.grammar is None:
        return _PLAIN_INPUT
    try:
        return text_for(tool.grammar, ask.budget)
    except UnanswerableError as error:
        raise bad_schema(f"custom tool {tool.name!r}", tool.param, error, "invalid_value") from error


def _arguments(tool: Tool, schema: JsonSchema, given: Given) -> str:
    for value in given.objects:
        if schema.fits(value):
            return _json(value)
    try:
        found = schema.instance(as_object=True)
    except UnanswerableError as error:
        raise bad_schema(f"function {tool.name!r}", tool.param, error, "invalid_function_parameters") from error
    named = set[str]()
    meant = ((name, value) for name, text in given.pairs if name in tool.properties for value in meanings(text))
    for name, value in islice(meant, reading.MOST_VALUES):
        if schema.fits({**found, name: value}):
            found = {**found, name: value}
            named.add(name)
    return _json(_filled(schema, found, given, [name for name in found if name not in named]))


def _filled(schema: JsonSchema, found: dict[str, Any], given: Given, free: Sequence[str]) -> dict[str, Any]:
    """Put the numbers and quotations of a text, in their order, where they fit."""
    numbers = list(given.numbers)
    left: dict[type, list[Any]] = {int: numbers, float: numbers, str: list(given.quotations)}
    for name in free:
        values = left.get(type(found[name]), [])
        fitting = (value for value in values if schema.fits({**found, name: value}))
        if (value := next(fitting, None)) is not None:
            values.remove(value)
            found = {**found, name: value}
    return found


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
