"""What was said, in OpenAI's shapes: one completion, or the events of a stream. Pure.

What a scripted reply has in common with it, ``flatfee.testing`` takes from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from flatfee.server.providers.simulation import tokens
from flatfee.server.providers.simulation.ask import Ask
from flatfee.server.providers.simulation.calls import Call
from flatfee.server.providers.simulation.conversation import cached_tokens, prompt_tokens
from flatfee.server.providers.simulation.reply import Said

DONE: Final = b"data: [DONE]\n\n"
_CREATED: Final = 1_700_000_000
_WORDS_PER_EVENT: Final = 2
_TOKENS_PER_EVENT: Final = 2
_LOGPROB: Final = -0.01
_ALTERNATIVE: Final = -5.0
_OPENING_TEXT: Final[dict[str, Any]] = {"role": "assistant", "content": ""}
_OPENING_CALLS: Final[dict[str, Any]] = {"role": "assistant", "content": None}


def completion(ask: Ask, said: Sequence[Said], body: bytes) -> bytes:
    """Return a completion."""
    choices = [
        {
            "index": one.index,
            "message": _message(ask, one),
            "logprobs": _logprobs(ask, one.content),
            "finish_reason": one.finish_reason,
        }
        for one in said
    ]
    head = head_of(body, ask.model, "chat.completion")
    return msgspec.json.encode({**head, "choices": choices, "usage": _usage(ask, said)})


def events(ask: Ask, said: Sequence[Said], body: bytes) -> list[bytes]:
    """Return the events of a stream, ``[DONE]`` included."""
    # What all events begin with is encoded once.
    head = b"data: " + msgspec.json.encode(head_of(body, ask.model, "chat.completion.chunk"))[:-1] + b',"choices":['
    sent: list[bytes] = []
    for one in said:
        opening = _OPENING_CALLS if one.calls else _OPENING_TEXT
        for delta in (opening, *_deltas(ask, one)):
            logprobs = _logprobs(ask, delta.get("content"))
            sent.append(_event(head, one.index, delta, logprobs, None))
        sent.append(_event(head, one.index, {}, None, one.finish_reason))
    if ask.include_usage:
        sent.append(head + b'],"usage":' + msgspec.json.encode(_usage(ask, said)) + b"}\n\n")
    return [*sent, DONE]


def _event(
    head: bytes, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None, finish: str | None
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return head + msgspec.json.encode(choice) + b"]}\n\n"


def identity_of(origin: bytes) -> str:
    """Return an identity that is the same for the same origin."""
    return hashlib.sha256(origin).hexdigest()[:24]


def head_of(origin: bytes, model: str, kind: str) -> dict[str, Any]:
    """Return what an answer, or each event of a stream, begins with."""
    return {"id": f"chatcmpl-{identity_of(origin)}", "object": kind, "created": _CREATED, "model": model}


def _message(ask: Ask, said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": None}
    if said.calls and ask.offer.legacy:
        message["function_call"] = {"name": said.calls[0].name, "arguments": said.calls[0].given}
    elif said.calls:
        message["tool_calls"] = [_call(call, call.given) for call in said.calls]
    return message


def _call(call: Call, given: str) -> dict[str, Any]:
    return called(call.identity, call.name, given, custom=call.custom)


def called(identity: str, name: str, given: str, *, custom: bool) -> dict[str, Any]:
    """Return a call of a tool."""
    if custom:
        return {"id": identity, "type": "custom", "custom": {"name": name, "input": given}}
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": given}}


def more_given(index: int, given: str, *, custom: bool) -> dict[str, Any]:
    """Return the delta that goes on with what the call at ``index`` is given."""
    inner = {"custom": {"input": given}} if custom else {"function": {"arguments": given}}
    return {"tool_calls": [{"index": index, **inner}]}


def _deltas(ask: Ask, said: Said) -> Iterator[dict[str, Any]]:
    for index, call in enumerate(said.calls):
        half = len(call.given) // 2
        first, second = call.given[:half], call.given[half:]
        if ask.offer.legacy:
            yield {"function_call": {"name": call.name, "arguments": first}}
            yield {"function_call": {"arguments": second}}
        else:
            yield {"tool_calls": [{**_call(call, first), "index": index}]}
            yield more_given(index, second, custom=call.custom)
    if said.content:
        yield from ({"content": piece} for piece in _pieces(ask, said.content))


def _pieces(ask: Ask, text: str) -> Iterator[str]:
    """Cut a text in pieces: at words, or where its logprobs are told between tokens."""
    if not ask.logprobs:
        yield from by_words(text)
        return
    parts = tokens.split(text)
    yield from ("".join(parts[at : at + _TOKENS_PER_EVENT]) for at in range(0, len(parts), _TOKENS_PER_EVENT))


def by_words(text: str) -> Iterator[str]:
    """Cut a text in pieces of two words, none of them empty."""
    words = text.split(" ")
    for start in range(0, len(words), _WORDS_PER_EVENT):
        piece = " ".join(words[start : start + _WORDS_PER_EVENT])
        piece += " " if start + _WORDS_PER_EVENT < len(words) else ""
        if piece:
            yield piece


def _logprobs(ask: Ask, text: str | None) -> dict[str, Any] | None:
    if not ask.logprobs or not text:
        return None
    parts = tokens.split(text)
    ask.budget.spend(len(parts) * (1 + ask.alternatives))
    return {"content": [_logprob(token, ask.alternatives) for token in parts], "refusal": None}


def _logprob(token: str, alternatives: int) -> dict[str, Any]:
    """Tell how likely a token was: very, and others of its length hardly."""
    others = (chr(ord("a") + index) * len(token) for index in range(21))
    rest = [_likely(other, _ALTERNATIVE) for other in others if other != token]
    top = [_likely(token, _LOGPROB), *rest][:alternatives]
    return {**_likely(token, _LOGPROB), "top_logprobs": top}


def _likely(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _usage(ask: Ask, said: Sequence[Said]) -> dict[str, Any]:
    prompt, completed, thought = prompt_tokens(ask.messages), 0, 0
    for one in said:
        completed += one.tokens
        thought += one.reasoning_tokens
    return usage_of(prompt, cached_tokens(ask.messages), completed, thought)


def usage_of(prompt: int, cached: int, completed: int, thought: int) -> dict[str, Any]:
    """Return figures, in tokens; ``cached`` is a part of the prompt, ``thought`` one of what was completed."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completed,
        "total_tokens": prompt + completed,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
