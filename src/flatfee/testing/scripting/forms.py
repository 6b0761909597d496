"""Rules as JSON: what a test in another language writes, made into what the same call in Python makes. No HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, JsonValue, ValidationError

from flatfee.testing.faults.edge import EDGES, Edge
from flatfee.testing.faults.failing import FAULTS
from flatfee.testing.faults.fault import Fault
from flatfee.testing.scripting.closed import Closed
from flatfee.testing.scripting.gates import Gate
from flatfee.testing.scripting.matchers import from_json
from flatfee.testing.scripting.matching import KEYWORDS
from flatfee.testing.scripting.played import Answer
from flatfee.testing.scripting.replies import Obey, Raw, Reply
from flatfee.testing.scripting.script import Rule, Script

ANSWERS: Final[Mapping[str, type[Closed]]] = {
    "reply": Reply,
    "raw": Raw,
    "obey": Obey,
    **dict.fromkeys(FAULTS, Fault),
    **dict.fromkeys(EDGES, Edge),
}
"""``kind`` of an answer → its form. An object without a kind is a ``Reply``, a text is one as well."""


class RuleForm(Closed):
    """A rule: its match keywords, its ``replies``, and how often, where and under which name it stands.

    A text is matched by equality, ``{"contains": …}``, ``{"matches": …}``, ``{"anything": true}`` or ``null`` for
    what is absent; a number by a number or a list of them.
    """

    replies: Annotated[tuple[JsonValue, ...], Field(min_length=1)]
    times: int | None = None
    first: bool = False
    name: str | None = None
    route: JsonValue = None
    tier: JsonValue = None
    attempt: JsonValue = None
    nth: JsonValue = None
    number: JsonValue = None
    stream: JsonValue = None
    model: JsonValue = None
    workflow: JsonValue = None
    task: JsonValue = None
    turn: JsonValue = None
    user: JsonValue = None
    system: JsonValue = None
    tool: JsonValue = None
    tool_result: JsonValue = None
    schema_name: JsonValue = Field(default=None, alias="schema")
    headers: JsonValue = None
    messages: JsonValue = None
    body: JsonValue = None

    def add_to(self, script: Script, behind: Gate | None = None) -> Rule:
        """Add the rule to a script, its answers behind a gate if there is one.

        Raises:
            ValueError: an impossible value, an answer of no known form, or a rule that could never be reached.
        """
        answers = [_read_behind(behind, reply, f"replies[{index}]") for index, reply in enumerate(self.replies)]
        match: Any = {name: from_json(value) for name, value in self._matches()}
        return script.add(*answers, times=self.times, first=self.first, name=self.name, **match)

    def _matches(self) -> list[tuple[str, Any]]:
        given = {(RuleForm.model_fields[name].alias or name): getattr(self, name) for name in self.model_fields_set}
        return [(name, given[name]) for name in KEYWORDS if name in given]


def read_rule(value: object) -> RuleForm:
    """Return the form of a rule that came as JSON.

    Raises:
        ValueError: it is none; the message names each wrong value.
    """
    try:
        return RuleForm.model_validate(value)
    except ValidationError as error:
        raise ValueError(told(error)) from error


def _read_behind(gate: Gate | None, reply: JsonValue, where: str) -> Answer:
    answer = read_answer(reply, where)
    try:
        return gate.then(answer) if gate is not None else answer
    except TypeError as error:
        message = f"{where}: {error}"
        raise ValueError(message) from error


def read_answer(value: object, where: str = "the answer") -> Answer:
    """Return an answer that came as JSON.

    Raises:
        ValueError: it is none; the message says where, and what is wrong.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        message = f"{where}: {value!r:.200} is no answer; give a text, or an object."
        raise ValueError(message)  # noqa: TRY004  # of a form that came in, like the others
    kind = value.get("kind", "reply")
    form = ANSWERS.get(kind) if isinstance(kind, str) else None
    if form is None:
        message = f"{where}: there is no kind {kind!r:.200}; there are: {', '.join(ANSWERS)}."
        raise ValueError(message)
    try:
        made: Any = form.model_validate(value)
    except ValidationError as error:
        raise ValueError(told(error, where)) from error
    return made  # type: ignore[no-any-return]  # every form plays


def told(error: ValidationError, where: str = "") -> str:
    """Return what is wrong with a form, in one line."""
    wrong = []
    for details in error.errors(include_url=False):
        place = ".".join([*filter(None, [where]), *map(str, details["loc"])])
        message = details["msg"].removeprefix("Value error, ")
        wrong.append(f"{place}: {message}" if place else message)
    return "; ".join(wrong)
