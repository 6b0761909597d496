"""How one OpenAI-compatible service wants to be asked, as data. Frozen values; nothing is sent or read here.

What is here changes a request. Answers and errors are read tolerantly, the same for all (``answers``,
``stages.failures``), so their ways need no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

GATEWAYS_OWN: Final = frozenset({"model", "messages", "stream"})
"""Members of a request that every service knows by these names, and that the gateway itself writes or reads."""

ANSWERS_OWN: Final = frozenset({"role", "content", "tool_calls"})
"""Members of an assistant's message that are what it said."""

Begun = Literal["plain", "prefix", "continue", "refused"]
"""How a service goes on from a begun answer: an assistant's message at the end, as it is (``plain``), with
``prefix: true`` on it, or with ``continue_final_message`` beside it. ``refused``: it does not."""


def _not_the_gateways(names: frozenset[str]) -> frozenset[str]:
    if own := sorted(names & GATEWAYS_OWN):
        raise ValueError(f"{own[0]!r} is what the gateway itself sends; name another member")
    return names


def _not_what_was_said(names: frozenset[str]) -> frozenset[str]:
    if own := sorted(names & ANSWERS_OWN):
        raise ValueError(f"{own[0]!r} is the answer itself; name another member")
    return names


def _free_names(names: Mapping[str, str]) -> Mapping[str, str]:
    _not_the_gateways(frozenset(names) | frozenset(names.values()))
    return names


class Dialect(BaseModel):
    """What a service's chat completions differ in from OpenAI's; the default is what every server is told.

    ``stream_options``: it knows the member, by which usage is asked for in streams; otherwise it tells usage
    without being asked. ``output_limit``: the one name by which it knows the most tokens of an answer; absent:
    what the caller wrote goes on. ``rename``: members it knows by another name. ``leave_out``: members it would
    refuse a request for, and without which the answer is the same. ``leave_out_of_answers``: the same of earlier
    answers, the assistant's messages and the calls in them, which callers give back as whichever service told them.
    ``wants_thoughts``: where tools were called, it wants ``reasoning_content`` on those, if only an empty one.
    ``developer``: it knows that role; otherwise it is told ``system``. ``tool_names``: results of tools may have a
    ``name`` beside their ``tool_call_id``. ``prefill``: how it goes on from a begun answer. ``key_header``: where
    the key stands; as a bearer token in ``authorization``, as it is in any other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    stream_options: bool = True
    output_limit: Literal["max_tokens", "max_completion_tokens"] | None = None
    rename: Annotated[Mapping[str, str], AfterValidator(_free_names)] = Field(default_factory=dict)
    leave_out: Annotated[frozenset[str], AfterValidator(_not_the_gateways)] = frozenset()
    leave_out_of_answers: Annotated[frozenset[str], AfterValidator(_not_what_was_said)] = frozenset()
    wants_thoughts: bool = False
    developer: bool = True
    tool_names: bool = True
    prefill: Begun = "plain"
    key_header: str = Field(default="authorization", pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)

    def overridden(self, by: Dialect) -> Dialect:
        """Return it with the fields that were given to another."""
        return (
            self
            if not by.model_fields_set
            else self.model_copy(update={name: getattr(by, name) for name in by.model_fields_set})
        )


PLAIN: Final = Dialect()
"""What servers that call themselves OpenAI-compatible have in common
(https://platform.openai.com/docs/api-reference/chat)."""
