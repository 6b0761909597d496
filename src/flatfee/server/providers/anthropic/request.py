"""The body of a chat completion as one of the Messages API. Pure; bytes in, bytes out.

https://platform.claude.com/docs/en/api/messages/create, checked against the types of anthropic-sdk-python 0.121
(``MessageCreateParams``). What of it each part becomes is in the modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from flatfee.server.providers.anthropic import parameters
from flatfee.server.providers.anthropic.chat import Chat, Json, read_chat
from flatfee.server.providers.anthropic.errors import Untranslatable
from flatfee.server.providers.anthropic.messages import Conversation, converse
from flatfee.server.providers.anthropic.models import Generation, generation_of
from flatfee.server.providers.anthropic.tools import named_tools, tool_blocks, tool_choice


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesRequest:
    """A request of the Messages API. ``rest`` is what is neither ``system`` nor ``messages``."""

    conversation: Conversation
    rest: Json

    @property
    def has_thoughts(self) -> bool:
        """Whether it gives thinking blocks back."""
        return self.conversation.has_thoughts

    def without_thoughts(self) -> MessagesRequest:
        """Return it without thinking blocks, for a model that does not take those; it may think anew if it can."""
        conversation = self.conversation.without_thoughts()
        rest = self.rest
        if rest.get("thinking", {}).get("type") == "enabled" and not conversation.may_think:
            rest = {name: value for name, value in rest.items() if name != "thinking"}
        return MessagesRequest(conversation=conversation, rest=rest)

    def encoded(self) -> bytes:
        """Return the body."""
        system = self.conversation.system
        told = {"system": system} if system else {}
        return msgspec.json.encode({**self.rest, **told, "messages": self.conversation.messages})


def read_request(body: bytes) -> MessagesRequest:
    """Translate the body of a chat completion.

    Raises:
        Untranslatable: it says something that the Messages API cannot.
    """
    chat = read_chat(body)
    if chat.n is not None and chat.n != 1:
        raise Untranslatable(f"n is {chat.n}; Anthropic's API gives one choice. Ask once for each.", "n")
    if chat.functions:
        raise Untranslatable("functions are not taken by Anthropic's API; send tools.", "functions")
    takes = generation_of(chat.model)
    conversation = converse(chat.messages)
    thinking = parameters.thinking(chat, takes, may_think=conversation.may_think)
    thinks = thinking is not None and thinking.get("type") != "disabled"
    rest: Json = {"model": chat.model, "max_tokens": parameters.max_tokens(chat)}
    rest |= parameters.sampling(chat, takes, thinks=thinks)
    rest |= parameters.extras(chat)
    rest |= _tools(chat, takes, conversation)
    if thinking is not None:
        rest["thinking"] = thinking
    if config := parameters.output_config(chat, takes):
        rest["output_config"] = config
    if chat.stream:
        rest["stream"] = True
    return MessagesRequest(conversation=conversation, rest=rest)


def _tools(chat: Chat, takes: Generation, conversation: Conversation) -> Json:
    if chat.tools:
        choice = tool_choice(chat)
        told = {"tools": tool_blocks(chat.tools, strict=takes.strict)}
        return told if choice is None else {**told, "tool_choice": choice}
    called = conversation.called
    return {"tools": named_tools(called), "tool_choice": {"type": "none"}} if called else {}
