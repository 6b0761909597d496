"""The tools of a body and what is said of their use: read and checked, none is called here. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flatfee.server.providers.simulation.refusal import RefusedError, check_known, missing, unknown, wrong_type
from flatfee.server.providers.simulation.schema import Budget, JsonSchema, UnanswerableError
from flatfee.server.providers.simulation.strict import check_strict

_NAME: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,128}")
_NO_PARAMETERS: Final[dict[str, Any]] = {"type": "object", "properties": {}}
_KINDS: Final = ("function", "custom")
_MODES: Final = ("none", "auto", "required")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool. ``param`` is where a complaint about what it takes belongs; ``schema`` is a function's."""

    name: str
    param: str
    schema: JsonSchema | None = None
    grammar: str | None = None
    properties: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The tools that may be called, and ``mode``: ``none``, ``auto`` or ``required``. ``legacy`` ones are functions."""

    tools: Sequence[Tool] = ()
    mode: str = "auto"
    parallel: bool = True
    legacy: bool = False


def read_offer(fields: Mapping[str, Any], budget: Budget) -> Offer:
    """Read which tools may be called.

    Raises:
        RefusedError: it names the tool, or the choice, and the cure.
    """
    legacy = bool(fields.get("functions")) and not fields.get("tools")
    tools = list(_functions(fields["functions"], budget) if legacy else _tools(fields.get("tools") or (), budget))
    names = [tool.name for tool in tools]
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise RefusedError(
            f"Tool names must be unique, and {twice!r} is there more than once.", "tools", "invalid_value"
        )
    choice = fields.get("function_call" if legacy else "tool_choice")
    if choice is None:
        choice = "auto" if tools else "none"
    elif not tools:
        if choice in ("none", "auto"):
            return Offer(mode="none")
        raise RefusedError("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    parallel = fields.get("parallel_tool_calls") is not False
    mode, chosen = _chosen(choice, tools, "function_call" if legacy else "tool_choice", legacy=legacy)
    return Offer(tools=chosen, mode=mode, parallel=parallel and not legacy, legacy=legacy)


def _tools(tools: Sequence[Any], budget: Budget) -> Iterator[Tool]:
    for index, tool in enumerate(tools):
        param = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise wrong_type(param, "an object", tool)
        kind = tool.get("type")
        check_known(f"{param}.type", kind, _KINDS, "'function' and 'custom'")
        inner = tool.get(kind)
        if not isinstance(inner, dict):
            raise missing(f"{param}.{kind}") if inner is None else wrong_type(f"{param}.{kind}", "an object", inner)
        read = _function if kind == "function" else _custom
        yield read(inner, f"{param}.{kind}", budget)


def _functions(functions: Sequence[Any], budget: Budget) -> Iterator[Tool]:
    for index, function in enumerate(functions):
        if not isinstance(function, dict):
            raise wrong_type(f"functions[{index}]", "an object", function)
        yield _function(function, f"functions[{index}]", budget)


def _name(tool: Mapping[str, Any], param: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str):
        raise missing(f"{param}.name") if name is None else wrong_type(f"{param}.name", "a string", name)
    if not _NAME.fullmatch(name):
        raise RefusedError(
            f"Invalid '{param}.name': {name[:60]!r}. Use letters, digits, '_' and '-', 1 to 64 of them.",
            f"{param}.name",
            "invalid_value",
        )
    return name


def _function(function: Mapping[str, Any], param: str, budget: Budget) -> Tool:
    name, written = _name(function, param), function.get("parameters")
    written = _NO_PARAMETERS if written is None else written
    where = f"{param}.parameters"
    if not isinstance(written, dict):
        raise wrong_type(where, "an object", written)
    try:
        if function.get("strict"):
            check_strict(written, budget)
        schema = JsonSchema(written, budget)
    except UnanswerableError as error:
        raise bad_schema(f"function {name!r}", where, error, "invalid_function_parameters") from error
    properties = written.get("properties")
    return Tool(name=name, param=where, schema=schema, properties=tuple(properties or ()))


def _custom(custom: Mapping[str, Any], param: str, budget: Budget) -> Tool:
    name, form = _name(custom, param), custom.get("format") or {}
    where = f"{param}.format"
    if not isinstance(form, dict):
        raise wrong_type(where, "an object", form)
    budget.spend()
    if form.get("type", "text") == "text":
        return Tool(name=name, param=where)
    grammar = form.get("grammar")
    if not isinstance(grammar, dict) or not isinstance(grammar.get("definition"), str):
        raise missing(f"{where}.grammar.definition")
    if grammar.get("syntax") != "regex":
        raise RefusedError(
            f"The simulated model follows grammars of syntax 'regex', and not {str(grammar.get('syntax'))[:60]!r}.",
            f"{where}.grammar.syntax",
            "invalid_value",
        )
    return Tool(name=name, param=where, grammar=grammar["definition"])


def bad_schema(owner: str, param: str, error: UnanswerableError, code: str) -> RefusedError:
    """Return the refusal of a schema that is malformed, or that no value was found for."""
    return RefusedError(f"Invalid schema for {owner}: at '#{error.where}', {error.why}.", param, code)


def _chosen(choice: Any, tools: list[Tool], param: str, *, legacy: bool) -> tuple[str, list[Tool]]:
    """Return the mode of a choice, and the tools that it leaves."""
    if isinstance(choice, str):
        if choice not in _MODES:
            raise unknown(param, choice, ", ".join(map(repr, _MODES)))
        return choice, tools
    if not isinstance(choice, dict):
        raise wrong_type(param, "a string or an object", choice)
    by_name = {tool.name: tool for tool in tools}
    if legacy:
        return "required", [_named(choice, by_name, param)]
    kind = choice.get("type", "function")
    if kind == "allowed_tools":
        return _allowed(choice.get("allowed_tools"), by_name, f"{param}.allowed_tools")
    if kind not in _KINDS:
        raise unknown(f"{param}.type", kind, "'function', 'custom' and 'allowed_tools'")
    return "required", [_named(choice.get(kind), by_name, f"{param}.{kind}")]


def _named(choice: Any, by_name: Mapping[str, Tool], param: str) -> Tool:
    if not isinstance(choice, dict):
        raise missing(param) if choice is None else wrong_type(param, "an object", choice)
    name = choice.get("name")
    found = by_name.get(name) if isinstance(name, str) else None
    if found is None:
        offered = ", ".join(by_name)[:200]
        raise RefusedError(
            f"Tool choice {str(name)[:60]!r} not found in 'tools' parameter; there is {offered}.",
            f"{param}.name",
            "invalid_value",
        )
    return found


def _allowed(allowed: Any, by_name: Mapping[str, Tool], param: str) -> tuple[str, list[Tool]]:
    if not isinstance(allowed, dict) or not isinstance(allowed.get("tools"), list):
        raise missing(f"{param}.tools")
    mode = allowed.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise unknown(f"{param}.mode", mode, "'auto' and 'required'")
    found = []
    for index, entry in enumerate(allowed["tools"]):
        kinds = [kind for kind in _KINDS if isinstance(entry, dict) and kind in entry]
        found.append(_named(entry[kinds[0]] if kinds else entry, by_name, f"{param}.tools[{index}]"))
    return mode, found
