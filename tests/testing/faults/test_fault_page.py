"""The guide's tables of faults, manners and edges are those of the code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from flatfee.testing import Edge, Fault
from flatfee.testing.faults.edge import EDGES
from flatfee.testing.faults.failing import FAULTS
from flatfee.testing.faults.manners import MANNERS

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "testing-faults.md"


def call(name: str, method: Callable[..., object]) -> str:
    """Return how a method is called, without defaults that mean nothing was given."""
    arguments = []
    for parameter in inspect.signature(method).parameters.values():
        given = "" if parameter.default in (None, parameter.empty) else f"={parameter.default!r}"
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        only = "=" if parameter.kind is parameter.KEYWORD_ONLY and not given else ""
        arguments.append(f"{star}{parameter.name}{given}{only}")
    return f"`{name}({', '.join(arguments)})`"


def table(heads: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [heads, ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)


def faults_table() -> str:
    rows = ((call(f"Fault.{kind}", getattr(Fault, kind)), row.says) for kind, row in FAULTS.items())
    return table(("fault", "a provider that…"), rows)


def manners_table() -> str:
    rows = ((f'`Fault.odd("{name}")`', manner.says) for name, manner in MANNERS.items())
    return table(("manner", "a provider that…"), rows)


def edges_table() -> str:
    rows = ((call(f"Edge.{kind}", getattr(Edge, kind)), says) for kind, says in EDGES.items())
    return table(("edge", "what happens"), rows)


@pytest.mark.parametrize("made", [faults_table, manners_table, edges_table])
def test_a_table_of_the_guide_is_the_codes(made: Callable[[], str]) -> None:
    assert made() in PAGE.read_text("utf-8"), f"put this in its place:\n\n{made()}"
