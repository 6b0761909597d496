"""What ``tools=[...]`` takes: a definition that is its own wire form, alone or with the function behind it.

Nothing here is called by itself: ``client.chat.completions.run_tools`` calls functions.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final, Generic, ParamSpec, TypeGuard, TypeVar, overload

from pydantic import BaseModel

from flatfee.errors import ConfigurationError
from flatfee.tools.schema import Structure, structure_of
from flatfee.tools.signature import Docstring, arguments_of

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolDefinition(Mapping[str, Any]):
    """A tool that a model may call. As a mapping it is what goes onto the wire, so it stands wherever a dict does."""

    name: str
    description: str | None
    arguments: Structure[Any]

    def __getitem__(self, key: str) -> Any:
        if key == "type":
            return "function"
        if key != "function":
            raise KeyError(key)
        told = {} if self.description is None else {"description": self.description}
        schema, strict = self.arguments.schema, self.arguments.strict
        return {"name": self.name, **told, "parameters": schema, "strict": strict}

    def __iter__(self) -> Iterator[str]:
        return iter(("type", "function"))

    def __len__(self) -> int:
        return 2

    def read(self, arguments: str) -> Any:
        """Return a call's arguments, checked. A call without any may come as empty text.

        Raises:
            ValueError: they do not fit. Its text does not show them.
        """
        return self.arguments.read(arguments or "{}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ModelTool(ToolDefinition):
    """A tool whose arguments are a pydantic model."""

    model: type[BaseModel]

    def __reduce__(self) -> tuple[Any, ...]:
        return _model_tool, (self.model, self.name, self.description)


# No slots: Python 3.11 cannot make a frozen class with slots from ``Name[type](...)``.
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FunctionTool(ToolDefinition, Generic[P, R]):
    """A tool with the function that does its work. It can be called as the function itself."""

    function: Callable[P, R]

    @property
    def is_async(self) -> bool:
        """Whether the function must be awaited."""
        inner = getattr(self.function, "__call__", None)  # noqa: B004 - an object's own method may be a coroutine function
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(inner)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as if it were no tool."""
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        place = (getattr(self.function, "__module__", None), getattr(self.function, "__qualname__", None))
        if _found_at(*place) is self:  # it was made by a decorator, and took the function's place
            return _found_at, place
        return _function_tool, (self.function, self.name, self.description)


def pydantic_function_tool(
    model: type[BaseModel], *, name: str | None = None, description: str | None = None
) -> ToolDefinition:
    """Return the tool whose arguments are ``model``, by default with the model's name and docstring.

    Raises:
        ConfigurationError: ``model`` is no pydantic model, or ``name`` cannot name a tool.
    """
    if not is_model(model):
        raise ConfigurationError(f"{model!r} is no pydantic model; function_tool() takes functions.")
    if description is None:
        description = inspect.cleandoc(model.__doc__ or "") or None
    name = _checked_name(model.__name__ if name is None else name)
    return ModelTool(name=name, description=description, arguments=structure_of(model), model=model)


@overload
def function_tool(
    function: Callable[P, R], /, *, name: str | None = None, description: str | None = None
) -> FunctionTool[P, R]: ...
@overload
def function_tool(
    *, name: str | None = None, description: str | None = None
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def function_tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, description: str | None = None
) -> Any:
    """Make a tool of a typed function, plain or a coroutine function; also as a decorator.

    Name, description and parameters come from the function's name, docstring (Google's style:
    ``Args:`` describes parameters) and annotations.

    Raises:
        ConfigurationError: names what no model can be told of: a parameter without annotation,
            ``*args``, ``**kwargs``, a type that is unknown to pydantic.
    """
    if function is None:
        return partial(function_tool, name=name, description=description)
    if isinstance(function, FunctionTool):
        function = function.function
    if not _is_function(function):
        raise ConfigurationError(f"{function!r} is no function; pydantic_function_tool() takes models.")
    docs = Docstring.of(function)
    name = _checked_name(getattr(function, "__name__", "") if name is None else name)
    return FunctionTool(
        name=name,
        description=docs.description if description is None else description,
        arguments=arguments_of(function, name, docs.arguments),
        function=function,
    )


def is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    """Tell whether ``kind`` is a pydantic model: the class, not a value of it."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot name a tool; pass name= with 1 to 64 of A-Z a-z 0-9 _ and -.")
    return name


def _model_tool(model: type[BaseModel], name: str, description: str | None) -> ToolDefinition:
    return pydantic_function_tool(model, name=name, description=description)


def _function_tool(function: Callable[..., Any], name: str, description: str | None) -> FunctionTool[..., Any]:
    return function_tool(function, name=name, description=description)


def _found_at(module: str | None, name: str | None) -> object:
    try:
        return attrgetter(name or "")(importlib.import_module(module or ""))
    except (AttributeError, ImportError, ValueError):
        return None
