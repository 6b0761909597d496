"""What the Messages API refuses in a request, by its documentation and by the words of its errors.

https://platform.claude.com/docs/en/api/messages/create, /docs/en/build-with-claude/thinking-troubleshooting,
/docs/en/agents-and-tools/tool-use/handle-tool-calls; names of fields are those of anthropic-sdk-python 0.121.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

FIELDS: Final = {
    *("model", "max_tokens", "messages", "system", "stream", "temperature", "top_p", "top_k", "stop_sequences"),
    *("tools", "tool_choice", "thinking", "output_config", "metadata", "service_tier", "cache_control"),
}
BLOCKS: Final[dict[str, set[str]]] = {
    "text": {"text"},
    "image": {"source"},
    "document": {"source", "title"},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id", "content"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
}
IN_ROLE: Final = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "tool_use", "thinking", "redacted_thinking"},
}
THOUGHTS: Final = {"thinking", "redacted_thinking"}
ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
GOOD_SIGNATURE: Final = "sig-"
"""How the fake signs. Any other signature is somebody else's."""


def refusals(body: dict[str, Any]) -> Iterator[str]:
    """Yield why a body is refused; nothing if it is not."""
    for name in body.keys() - FIELDS:
        yield f"{name}: Extra inputs are not permitted"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        yield "max_tokens: Field required"
    if not body.get("messages"):
        yield "messages: at least one message is required"
        return
    yield from _messages(body["messages"])
    yield from _calls(body["messages"])
    yield from _parameters(body)
    yield from _thinking(body)
    yield from _tools(body)


def _messages(messages: list[dict[str, Any]]) -> Iterator[str]:
    if messages[0]["role"] != "user":
        yield 'messages: first message must use the "user" role'
    for at, message in enumerate(messages):
        if message.keys() != {"role", "content"}:
            yield f"messages.{at}: Extra inputs are not permitted"
        if at and message["role"] == messages[at - 1]["role"]:
            yield f"messages.{at}: roles must alternate"
        if not message["content"]:
            yield f"messages.{at}: content must not be empty"
        for number, block in enumerate(message["content"]):
            where = f"messages.{at}.content.{number}"
            if block["type"] not in IN_ROLE[message["role"]]:
                yield f"{where}: {block['type']} is not allowed for {message['role']}"
            yield from _block(block, where)
    last = messages[-1]
    if last["role"] == "assistant" and last["content"][-1].get("text", "x")[-1:].isspace():
        yield "messages: final assistant content cannot end with trailing whitespace"


def _block(block: dict[str, Any], where: str) -> Iterator[str]:
    kind = block["type"]
    for name in block.keys() - BLOCKS[kind] - {"type", "cache_control"}:
        yield f"{where}.{kind}.{name}: Extra inputs are not permitted"
    if kind == "text" and not block["text"].strip():
        yield "messages: text content blocks must contain non-whitespace text"
    if kind == "tool_use" and not (isinstance(block["input"], dict) and ID.fullmatch(block["id"])):
        yield f"{where}.tool_use: input should be a valid dictionary, and id match '^[a-zA-Z0-9_-]+$'"
    if kind == "thinking" and not block["signature"].startswith(GOOD_SIGNATURE):
        yield f"{where}: Invalid `signature` in `thinking` block"
    if kind == "tool_result":
        for part in block.get("content", ()):
            yield from _block(part, f"{where}.content")


def _calls(messages: list[dict[str, Any]]) -> Iterator[str]:
    seen: set[str] = set()
    for at, message in enumerate(messages):
        ids = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        if len({*ids, *seen}) < len(ids) + len(seen):
            yield "messages: `tool_use` ids must be unique"
        seen.update(ids)
        following = messages[at + 1]["content"] if at + 1 < len(messages) else []
        answered = [block["tool_use_id"] for block in following if block["type"] == "tool_result"]
        if ids and sorted(ids) != sorted(answered):
            yield f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after"
        if not ids and answered:
            yield f"messages.{at + 1}: unexpected `tool_use_id` found in `tool_result` blocks"
        if any(block["type"] == "tool_result" for block in following[len(answered) :]):
            yield f"messages.{at + 1}: `tool_result` blocks must come first"


def _parameters(body: dict[str, Any]) -> Iterator[str]:
    if not 0 <= body.get("temperature", 1) <= 1:
        yield "temperature: range: 0..1"
    if "temperature" in body and "top_p" in body:
        yield "`temperature` and `top_p` cannot both be specified for this model"
    if any(not text.strip() for text in body.get("stop_sequences", ())):
        yield "stop_sequences: each stop sequence must contain non-whitespace"
    if body["model"].startswith("claude-opus-4-8") and body.keys() & {"temperature", "top_p", "top_k"}:
        yield "`temperature` is deprecated for this model."
    for block in body.get("system", ()):
        if block["type"] != "text" or not block["text"].strip():
            yield "system: text content blocks must be non-empty"


def _thinking(body: dict[str, Any]) -> Iterator[str]:
    thinking = body.get("thinking", {"type": "disabled"})
    manual = thinking["type"] == "enabled"
    if manual and body["model"].startswith("claude-opus-4-8"):
        yield '"thinking.type.enabled" is not supported for this model'
    if thinking["type"] != "disabled" and body.get("tool_choice", {}).get("type") in {"any", "tool"}:
        yield "Thinking may not be enabled when tool_choice forces tool use."
    if not manual:
        return
    if not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`"
    if body.keys() & {"temperature", "top_k"}:
        yield "`temperature` may only be set to 1 when thinking is enabled"
    results = any(block["type"] == "tool_result" for block in body["messages"][-1]["content"])
    if results and body["messages"][-2]["content"][0]["type"] not in THOUGHTS:
        yield "Expected `thinking` or `redacted_thinking`, but found `tool_use`."


def _tools(body: dict[str, Any]) -> Iterator[str]:
    used = any(block["type"] == "tool_use" for message in body["messages"] for block in message["content"])
    if used and not body.get("tools"):
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools"
    if "tool_choice" in body and not body.get("tools"):
        yield "tool_choice: may only be specified while providing tools"
    for number, tool in enumerate(body.get("tools", ())):
        if tool.get("input_schema", {}).get("type") != "object":
            yield f"tools.{number}.custom.input_schema.type: Field required"
        for name in tool.keys() - {"name", "description", "input_schema", "strict", "cache_control"}:
            yield f"tools.{number}.custom.{name}: Extra inputs are not permitted"
