"""What the simulated model says to a request, cut to what was asked for. Pure: no JSON of the wire here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from flatfee.server.providers.simulation import tokens
from flatfee.server.providers.simulation.ask import FORMAT, Ask
from flatfee.server.providers.simulation.calls import Call, calls_of
from flatfee.server.providers.simulation.conversation import last_said, results, text_of
from flatfee.server.providers.simulation.offers import bad_schema
from flatfee.server.providers.simulation.schema import UnanswerableError

_WORDS_REPEATED: Final = 12
_CHARACTERS_REPEATED: Final = 400
_CHARACTERS_OF_RESULTS: Final = 2000
_CHARACTERS_PER_STEP: Final = 64


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One choice: text, or calls of tools. ``tokens`` are all of it, those of reasoning included."""

    index: int
    content: str | None
    calls: Sequence[Call]
    finish_reason: str
    tokens: int
    reasoning_tokens: int


def answer(ask: Ask) -> list[Said]:
    """Return what is said, choice by choice.

    Raises:
        RefusedError: no value was found for a schema.
        SpentError: it is too much to say.
    """
    calls = calls_of(ask) if ask.offer.tools else []
    if calls:
        said = _calling(ask, calls)
        _spend(ask, sum(len(call.given) for call in said.calls))
        return [msgspec.structs.replace(said, index=index) for index in range(ask.choices)]
    formed = _formed(ask)
    return [_saying(ask, index, formed or _words(ask, index)) for index in range(ask.choices)]


def _formed(ask: Ask) -> str | None:
    if ask.form is None:
        return None
    try:
        text = json.dumps(ask.form.instance())
    except UnanswerableError as error:
        raise bad_schema("response_format", FORMAT, error, "invalid_json_schema") from error
    _spend(ask, len(text))
    return text


def _spend(ask: Ask, characters: int) -> None:
    """Take what is said from the budget, for each choice says it."""
    ask.budget.spend(characters * ask.choices // _CHARACTERS_PER_STEP)


def _words(ask: Ask, index: int) -> str:
    words = last_said(ask.messages).split(None, _WORDS_REPEATED)[:_WORDS_REPEATED]
    about = " ".join(words)[:_CHARACTERS_REPEATED] or "nothing"
    told = "; ".join(results(ask.messages))
    told = f" The tool says: {told[:_CHARACTERS_OF_RESULTS]}." if told else ""
    again = f" (choice {index + 1})" if index else ""
    return (
        f"This is {ask.model}, a simulated model{again}. You said: {about}.{told} Nothing was really thought about it."
    )


def _saying(ask: Ask, index: int, text: str) -> Said:
    begun = ask.messages[-1]
    if begun["role"] == "assistant":
        text = text.removeprefix(text_of(begun))
    if ask.stop:
        text = text[: min(end for end in (*map(text.find, ask.stop), len(text)) if end >= 0)]
    kept, thought, whole = text, ask.reasoning_tokens, True
    if ask.most is not None:
        kept = tokens.cut(text, max(0, ask.most - thought))
        whole = len(kept) == len(text) and thought <= ask.most
        thought = min(thought, ask.most)
    return Said(
        index=index,
        content=kept,
        calls=(),
        finish_reason="stop" if whole else "length",
        tokens=max(1, thought + tokens.count(kept)),
        reasoning_tokens=thought,
    )


def _calling(ask: Ask, calls: Sequence[Call]) -> Said:
    """Say calls one after the other, as far as the tokens go; each takes one at least."""
    thought = ask.reasoning_tokens if ask.most is None else min(ask.reasoning_tokens, ask.most)
    used, said, whole = thought, list[Call](), True
    for call in calls:
        room = None if ask.most is None else ask.most - used
        given = call.given if room is None else tokens.cut(call.given, max(0, room))
        whole = len(given) == len(call.given) and (room is None or room > 0)
        if room is None or room > 0:
            said.append(replace(call, given=given))
            used += max(1, tokens.count(given))
        if not whole:
            break
    finish = ("function_call" if ask.offer.legacy else "tool_calls") if whole else "length"
    return Said(
        index=0,
        content=None if said else "",
        calls=said,
        finish_reason=finish,
        tokens=max(1, used),
        reasoning_tokens=thought,
    )
