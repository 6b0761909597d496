"""The messages of a body: are they such that a provider answers, and what was said in them? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flatfee.server.providers.simulation.refusal import RefusedError, check_known, missing, wrong_type
from flatfee.server.providers.simulation.tokens import BYTES_PER_TOKEN, TOKENS_PER_MEDIUM

_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_MEDIA: Final = ("image_url", "input_audio", "file")
_PARTS: Final = ("text", "refusal", *_MEDIA)
_BYTES_PER_MESSAGE: Final = 8
_LEAST_CACHED: Final = 1024
_CACHED_IN_BLOCKS_OF: Final = 128


def check_messages(messages: Any) -> None:
    """Refuse messages that OpenAI refuses: of wrong shapes, or tool calls and their results that do not match.

    Raises:
        RefusedError: it names the message.
    """
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise RefusedError("Invalid 'messages': empty array. Send at least one message.", "messages", "empty_array")
    waiting: dict[str, None] = {}
    called = False
    for index, message in enumerate(messages):
        role = _role(message, index)
        if role == "tool":
            _check_result(message, index, waiting, called=called)
            continue
        if waiting:
            raise _unanswered(waiting)
        called = role == "assistant" and bool(message.get("tool_calls"))
        if called:
            waiting = _calls(message["tool_calls"], f"messages[{index}].tool_calls")
        _check_content(message, role, f"messages[{index}]")
    if waiting:
        raise _unanswered(waiting)


def _role(message: Any, index: int) -> str:
    if not isinstance(message, dict):
        raise wrong_type(f"messages[{index}]", "an object", message)
    role = message.get("role")
    check_known(f"messages[{index}].role", role, _ROLES)
    return str(role)


def _check_result(message: dict[str, Any], index: int, waiting: dict[str, None], *, called: bool) -> None:
    if not called:
        raise RefusedError(
            "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
            f"messages[{index}].role",
        )
    identity = message.get("tool_call_id")
    if identity is None:
        raise missing(f"messages[{index}].tool_call_id")
    if not isinstance(identity, str) or identity not in waiting:
        raise RefusedError(
            f"Invalid parameter: 'tool_call_id' {str(identity)[:60]!r} is none of the 'tool_calls' of the preceding "
            "message that wait for a result. Send one result for each call.",
            f"messages[{index}].tool_call_id",
        )
    del waiting[identity]
    _check_content(message, "tool", f"messages[{index}]")


def _calls(calls: Any, param: str) -> dict[str, None]:
    if not isinstance(calls, list):
        raise wrong_type(param, "an array of objects", calls)
    found: dict[str, None] = {}
    for index, call in enumerate(calls):
        if not isinstance(call, dict):
            raise wrong_type(f"{param}[{index}]", "an object", call)
        if not isinstance(call.get("id"), str):
            raise (
                missing(f"{param}[{index}].id")
                if "id" not in call
                else wrong_type(f"{param}[{index}].id", "a string", call["id"])
            )
        found[call["id"]] = None
    return found


def _unanswered(waiting: dict[str, None]) -> RefusedError:
    names = ", ".join(list(waiting)[:8])
    return RefusedError(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {names}",
        "messages",
    )


def _check_content(message: dict[str, Any], role: str, param: str) -> None:
    content = message.get("content")
    if isinstance(content, str) or (content is None and role in {"assistant", "function"}):
        return
    if content is None:
        raise (
            missing(f"{param}.content")
            if "content" not in message
            else wrong_type(f"{param}.content", "a string or an array", None)
        )
    if not isinstance(content, list):
        raise wrong_type(f"{param}.content", "a string or an array of objects", content)
    for index, part in enumerate(content):
        where = f"{param}.content[{index}]"
        if not isinstance(part, dict):
            raise wrong_type(where, "an object", part)
        kind = part.get("type")
        check_known(f"{where}.type", kind, _PARTS)
        held = part.get(kind)
        if held is None:
            raise missing(f"{where}.{kind}")
        if not isinstance(held, dict if kind in _MEDIA else str):
            raise wrong_type(f"{where}.{kind}", "an object" if kind in _MEDIA else "a string", held)


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message."""
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def prompt_tokens(messages: Sequence[dict[str, Any]]) -> int:
    """Return how many tokens were heard: text, two for each message, and a fixed number for each medium."""
    heard = media = 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            media += sum(part["type"] in _MEDIA for part in content)
            content = text_of(message)
        heard += _BYTES_PER_MESSAGE
        if content:
            heard += len(content) if content.isascii() else len(content.encode())
    return -(-heard // BYTES_PER_TOKEN) + media * TOKENS_PER_MEDIUM


def cached_tokens(messages: Sequence[dict[str, Any]]) -> int:
    """Return how many tokens a provider has cached: what came before the last answer was sent before."""
    answered = max((index for index, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    sent = prompt_tokens(messages[:answered])
    return sent // _CACHED_IN_BLOCKS_OF * _CACHED_IN_BLOCKS_OF if sent >= _LEAST_CACHED else 0


def last_said(messages: Sequence[dict[str, Any]]) -> str:
    """Return the last user message's text."""
    for message in reversed(messages):
        if message["role"] == "user":
            return text_of(message)
    return ""


def results(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return the results of tools that the messages end with, in their order."""
    last = len(messages)
    while last and messages[last - 1]["role"] in {"tool", "function"}:
        last -= 1
    return [text_of(message) for message in messages[last:]]
