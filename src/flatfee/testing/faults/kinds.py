"""What ``Fault`` and ``Edge`` share: the kind of a form is the name of the method that makes it.

Its members are that method's arguments. So what a kind takes and needs is written once, and is the same in Python and
in JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from inspect import Parameter, signature
from typing import TypeVar

from flatfee.testing.scripting.closed import Closed

_Form = TypeVar("_Form", bound=Closed)


@cache
def arguments(form: type[Closed], kind: str) -> Mapping[str, bool]:
    """Return what a kind takes: the name of each argument → whether it is needed."""
    parameters = signature(getattr(form, kind)).parameters.values()
    return {each.name: each.default is each.empty and each.kind is not Parameter.VAR_POSITIONAL for each in parameters}


def check(form: Closed, kind: str) -> None:
    """Accept a form that has what its kind needs, and nothing else.

    Raises:
        ValueError: naming what is missing, or what the kind does not know.
    """
    takes = arguments(type(form), kind)
    told = f"it takes {', '.join(takes) or 'nothing'}."
    for name in sorted(form.model_fields_set - {"kind", *takes}):
        raise ValueError(f"{kind!r} knows no {name!r}; {told}")
    for name, is_needed in takes.items():
        if is_needed and name not in form.model_fields_set:
            raise ValueError(f"{kind!r} needs {name!r}; {told}")


def written(form: Closed, kind: str) -> str:
    """Write a form as the call that makes it."""
    given = [name for name in arguments(type(form), kind) if name in form.model_fields_set]
    return f"{type(form).__name__}.{kind}({', '.join(f'{name}={getattr(form, name)!r}' for name in given)})"


def made(form: type[_Form], kind: str, **given: object) -> _Form:
    """Make a form of what was given: what was left out is no part of its JSON."""
    return form.model_validate({"kind": kind, **{name: value for name, value in given.items() if value is not None}})
