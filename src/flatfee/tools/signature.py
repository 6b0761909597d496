"""What a function's signature and docstring tell a model: its parameters, their types, what they mean. Pure."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, Final, NotRequired, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from flatfee.errors import ConfigurationError
from flatfee.tools.schema import Structure, described

_ARGUMENTS: Final = frozenset({"args", "arguments", "parameters", "params"})
_SECTIONS: Final = _ARGUMENTS | {
    *("attributes", "example", "examples", "note", "notes", "raises", "return", "returns", "see also", "todo"),
    *("warning", "warnings", "yield", "yields"),
}
_HEADER: Final = re.compile(r"([A-Za-z][A-Za-z ]*):\s*")
_ARGUMENT: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)")


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring in Google's style: what comes before its sections, and its ``Args:`` by name."""

    description: str | None
    arguments: Mapping[str, str]

    @classmethod
    def of(cls, function: Callable[..., object]) -> Docstring:
        """Read a function's docstring; one in another style is all description."""
        said: list[str] = []
        arguments: dict[str, str] = {}
        section, name, margin = "", "", 0
        for line in inspect.cleandoc(_innermost(function).__doc__ or "").splitlines():
            header = _HEADER.fullmatch(line)
            if header and header[1].lower() in _SECTIONS:
                section, margin = header[1].lower(), 0
            elif not section:
                said.append(line)
            elif section in _ARGUMENTS and line.strip():
                indent = len(line) - len(line.lstrip())
                margin = margin or indent
                found = _ARGUMENT.fullmatch(line.strip())
                if found and indent <= margin:
                    name = found[1]
                    arguments[name] = found[2]
                elif name:
                    arguments[name] = f"{arguments[name]} {line.strip()}".strip()
        return cls("\n".join(said).strip() or None, arguments)


def arguments_of(function: Callable[..., object], name: str, docs: Mapping[str, str]) -> Structure[Any]:
    """Describe a function's parameters. What is read with it is a dictionary of keyword arguments.

    It is strict unless a parameter has a default that ``null`` cannot stand for: a strict schema makes
    the model give every argument, and a default would never be used.

    Raises:
        ConfigurationError: names the function and the parameter that no model can be told of.
    """
    parameters = [_checked(parameter, name) for parameter in _parameters(function, name)]
    fields = {parameter.name: _member(parameter, docs.get(parameter.name)) for parameter in parameters}
    members = TypedDict(name, fields)  # type: ignore[misc]  # the parameters are known at run time only
    members.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]  # pydantic's name for it
    structure = described(members, name=name, strict=all(_may_be_asked_for(parameter) for parameter in parameters))
    if not structure.strict:
        for parameter in parameters:
            _tell_default(structure.schema["properties"].get(parameter.name, {}), parameter.default)
    return structure


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what was written: behind decorators that say what they wrap, and partials."""
    function = inspect.unwrap(function)
    return _innermost(function.func) if isinstance(function, partial) else function


def _bound(function: Callable[..., Any]) -> frozenset[str]:
    """Return the arguments that partials have fixed. They are the program's, and may be a key or a connection."""
    function = inspect.unwrap(function)
    if not isinstance(function, partial):
        return frozenset()
    return _bound(function.func) | function.keywords.keys()


def _parameters(function: Callable[..., object], name: str) -> Iterator[inspect.Parameter]:
    """Yield the parameters with annotations that are types: what is quoted is looked up, but for the result's."""
    try:
        parameters = inspect.signature(function).parameters.values()
        inner = _innermost(function)
        if not hasattr(inner, "__annotations__"):
            inner = type(inner).__call__
        untold = _bound(function) | {"return"}
        quoted = {key: value for key, value in getattr(inner, "__annotations__", {}).items() if key not in untold}
        names = getattr(inner, "__globals__", {})
        hints = get_type_hints(SimpleNamespace(__annotations__=quoted), names, include_extras=True)
        for each in parameters:
            if each.name not in untold:
                known = each.annotation is quoted.get(each.name)  # a decorator may tell its own
                yield each.replace(annotation=hints[each.name]) if known else each
    except NameError as error:
        raise ConfigurationError(
            f"The function {name} has an annotation that names {error.name!r}, which its module does not know; "
            "define or import it at the top of the module."
        ) from error
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"The signature of {name} cannot be read: {error}.") from error


def _checked(parameter: inspect.Parameter, name: str) -> inspect.Parameter:
    where = f"The parameter {parameter} of the function {name}"
    if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
        raise ConfigurationError(f"{where} has no name to tell a model; list the parameters one by one.")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise ConfigurationError(f"{where} is positional only, and arguments are passed by name; move the '/'.")
    if isinstance(parameter.default, FieldInfo):
        raise ConfigurationError(
            f"The parameter {parameter.name} of the function {name} has a Field() as its default, and the function "
            f"would be given that; write '{parameter.name}: Annotated[..., Field(...)] = ...' with the value itself."
        )
    if parameter.annotation is parameter.empty:
        cure = "pass the bound method" if parameter.name in {"self", "cls"} else "annotate it, as in 'city: str'"
        raise ConfigurationError(f"{where} has no annotation, so no model can be told its type; {cure}.")
    return parameter


def _member(parameter: inspect.Parameter, doc: str | None) -> Any:
    annotation = parameter.annotation
    told = any(isinstance(mark, FieldInfo) and mark.description for mark in getattr(annotation, "__metadata__", ()))
    if doc and not told:
        annotation = Annotated[annotation, Field(description=doc)]
    return annotation if parameter.default is parameter.empty else NotRequired[annotation]


def _may_be_asked_for(parameter: inspect.Parameter) -> bool:
    """Tell whether a model may be made to give the argument always: ``null`` where it has none."""
    if parameter.default is parameter.empty:
        return True
    if parameter.default is not None:
        return False
    try:
        TypeAdapter(parameter.annotation).validate_python(None)
    except (ValidationError, PydanticUserError):
        return False
    return True


def _tell_default(member: dict[str, Any], default: object) -> None:
    if default is inspect.Parameter.empty:
        return
    try:
        member["default"] = to_jsonable_python(default)
    except PydanticSerializationError:
        return  # the model can do without: it leaves the argument out
