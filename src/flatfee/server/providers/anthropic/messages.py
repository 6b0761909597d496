"""A conversation as the Messages API has it: instructions apart, and turns of two roles. Pure.

https://platform.claude.com/docs/en/api/messages, and for what follows a call of tools
https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls: all results in the very next
message, before any text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flatfee.server.providers.anthropic import parts, thoughts
from flatfee.server.providers.anthropic.chat import ChatMessage, Json
from flatfee.server.providers.anthropic.errors import Untranslatable
from flatfee.server.providers.anthropic.tools import ToolIds, call_block

_INSTRUCTIONS: Final = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """``system`` and ``messages``, each message with its blocks in a list."""

    system: Sequence[Json]
    messages: Sequence[Json]

    @property
    def called(self) -> list[str]:
        """The names of the tools that were called, in order."""
        return [block["name"] for message in self.messages for block in message["content"] if "input" in block]

    @property
    def has_thoughts(self) -> bool:
        """Whether thinking blocks are among it."""
        return any(block["type"] in thoughts.KINDS for message in self.messages for block in message["content"])

    @property
    def may_think(self) -> bool:
        """Whether thinking with a budget may follow.

        It may not on words that were given to the assistant, nor on results of calls that came without thoughts:
        https://platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows
        """
        last = self.messages[-1]
        if last["role"] == "assistant":
            return False
        results = last["content"][0]["type"] == "tool_result"
        return not results or len(self.messages) < 2 or self.messages[-2]["content"][0]["type"] in thoughts.KINDS

    def without_thoughts(self) -> Conversation:
        """Return it without thinking blocks, and without messages that were nothing else."""
        turns = _Turns()
        for message in self.messages:
            turns.add(message["role"], [block for block in message["content"] if block["type"] not in thoughts.KINDS])
        return Conversation(system=self.system, messages=turns.messages)


def converse(messages: Sequence[ChatMessage]) -> Conversation:
    """Translate the messages of a chat completion.

    Instructions are ``system`` wherever they stand: only newer models take them among the messages, and only in
    some places. Where there is nothing else, they are what the user says.

    Raises:
        Untranslatable: a message has no equivalent, or nothing is left to say.
    """
    system: list[Json] = []
    turns = _Turns()
    ids = ToolIds()
    for number, message in enumerate(messages):
        role, blocks = message.role, _blocks(message, ids, f"messages[{number}]")
        if blocks and message.cache_control is not None:
            blocks[-1] = {**blocks[-1], "cache_control": message.cache_control}
        if role in _INSTRUCTIONS:
            system.extend(blocks)
        elif role == "tool":
            turns.add_result(blocks[0])
        else:
            turns.add(role, blocks)
    if not turns.messages:
        turns.add("user", system)
        system = []
    if not turns.messages:
        raise Untranslatable("messages hold no text; Anthropic's API wants at least one.", "messages")
    _trim_last(turns.messages)
    return Conversation(system=system, messages=turns.messages)


class _Turns:
    """Messages as they are put together; those of one role in a row become one."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self._results = 0

    def add(self, role: str, blocks: list[Json]) -> None:
        """Add blocks, if there are any."""
        if blocks:
            self._content(role).extend(blocks)

    def add_result(self, block: Json) -> None:
        """Add the result of a tool: behind other results, before anything else that the user says."""
        self._content("user").insert(self._results, block)
        self._results += 1

    def _content(self, role: str) -> list[Json]:
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": []})
            self._results = 0
        content: list[Json] = self.messages[-1]["content"]
        return content


def _blocks(message: ChatMessage, ids: ToolIds, where: str) -> list[Json]:
    if message.role in _INSTRUCTIONS:
        return _texts_only(parts.blocks_of(message, where), where)
    if message.role == "user":
        return parts.blocks_of(message, where)
    if message.role == "assistant":
        return _said(message, ids, where)
    if message.role == "tool":
        return [_result(message, ids, where)]
    raise Untranslatable(
        f"{where} has the role {message.role[:40]!r}; send system, developer, user, assistant or tool.", where
    )


def _said(message: ChatMessage, ids: ToolIds, where: str) -> list[Json]:
    """Return the blocks of the assistant, in the order in which it says them: thoughts, text, calls."""
    calls = message.tool_calls or []
    return [
        *thoughts.blocks_of(message.reasoning_details, message.thinking_blocks),
        *_texts_only(parts.blocks_of(message, where), where),
        *(call_block(call, ids, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)),
    ]


def _result(message: ChatMessage, ids: ToolIds, where: str) -> Json:
    if not message.tool_call_id:
        raise Untranslatable(f"{where} is the result of a tool and has no tool_call_id.", where)
    block: Json = {"type": "tool_result", "tool_use_id": ids.result(message.tool_call_id)}
    if content := parts.blocks_of(message, where):
        block["content"] = content
    return block


def _texts_only(blocks: list[Json], where: str) -> list[Json]:
    if any(block["type"] != "text" for block in blocks):
        raise Untranslatable(f"{where} may hold text only for Anthropic's API.", where)
    return blocks


def _trim_last(messages: list[Json]) -> None:
    """Take the space off the end of words given to the assistant: the API refuses it."""
    last = messages[-1]
    block = last["content"][-1]
    if last["role"] == "assistant" and block["type"] == "text":
        last["content"][-1] = {**block, "text": block["text"].rstrip()}
