"""Bodies that are made to take long. Most took ten seconds or a gigabyte before their work was counted."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from tests.server.providers.simulation.asking import body, form, function

from flatfee.server.providers import simulation

pytestmark = pytest.mark.slow

SECONDS = 3.0
"""Of the processor: many times of what each takes, and far from what it took."""


def _body(schema: Any = None, said: str = "x", **more: Any) -> bytes:
    return body(said, **more) if schema is None else body(said, response_format=form(schema))


def _custom(name: str) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": name}}


def _function(name: str) -> dict[str, Any]:
    return function(name, {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})


def _properties(count: int, schema: Any) -> dict[str, Any]:
    return {"properties": {f"p{index}": schema for index in range(count)}}


def _required(count: int, schema: Any) -> dict[str, Any]:
    return {"type": "object", **_properties(count, schema), "required": [f"p{index}" for index in range(count)]}


CATEGORIES = [
    "L",
    "M",
    "N",
    "P",
    "S",
    "Z",
    "Cc",
    "Cf",
    "Ll",
    "Lm",
    "Lo",
    "Lt",
    "Lu",
    "Mc",
    "Me",
    "Mn",
    "Nd",
    "Nl",
    "No",
]
CATEGORIES += ["Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs", "C"]
LONG = "n" * 1_000_000

HOSTILE: dict[str, bytes] = {
    "a tool that is there twice, the last of many": _body(
        tools=[_custom(f"t{i:05}") for i in range(40_000)] + [_custom("t39999")]
    ),
    "the last of many tools allowed, many times": _body(
        tools=[_custom(f"t{i:05}") for i in range(20_000)],
        tool_choice={
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "custom", "name": "t19999"}] * 20_000},
        },
    ),
    "many tools named beside many quotation marks": _body(
        tools=[_function(f"t{i}") for i in range(1000)], said=" ".join(f"t{i}" for i in range(1000)) + " “" * 2500
    ),
    "types that are there many times": _body(
        {"allOf": [{"type": ["integer"] * 40_000}, {"type": ["string"] * 40_000}]}
    ),
    "names that are required many times": _body(
        {"const": {"a": 1}, "$defs": {"x": {"required": ["a"] * 100_000}}, "allOf": [{"$ref": "#/$defs/x"}] * 2000}
    ),
    "a pattern of many characters": _body({"pattern": f"^({'|'.join(map(chr, range(0x4E00, 0x4E00 + 4000)))})$"}),
    "a pattern of every category": _body({"pattern": "".join(f"\\p{{{name}}}?" for name in CATEGORIES * 100)}),
    "a class of what is in no category": _body({"pattern": "[" + "\\P{L}" * 9000 + "]"}),
    "steps without a common multiple": _body(
        {"minimum": 1, "allOf": [{"multipleOf": 1 / (3 + i)} for i in range(5000)]}
    ),
    "long texts": _body(_required(4000, {"type": "string", "minLength": 50_000})),
    "elements that are asked for many times": _body({"allOf": [{"contains": {}, "minContains": 10_000}] * 4000}),
    "members of which others are required": _body(
        {
            "const": {"a": 1},
            "$defs": {"x": {"anyOf": [{"dependentRequired": {"a": [f"n{i}" for i in range(60_000)]}}, True]}},
            "allOf": [{"$ref": "#/$defs/x"}] * 2000,
        }
    ),
    "many members": _body({"type": "object", "minProperties": 20_000_000}),
    "members beyond counting": _body({"type": "object", "minProperties": 1e30}),
    "fewer members than beyond counting": _body({"type": "object", "not": {"maxProperties": 1e30}}),
    "a strict schema of many members": _body(
        tools=[function("f", {**_required(40_000, {}), "additionalProperties": False}, strict=True)]
    ),
    "a long reference": _body(
        {
            "$defs": {LONG: {"type": "integer"}, "x": {"$ref": f"#/$defs/{LONG}"}},
            **_required(2000, {"$ref": "#/$defs/x"}),
        }
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_body_takes_a_bounded_time(name: str) -> None:
    """It is answered or refused; never does it keep the event loop."""
    started = time.process_time()
    with suppress(simulation.RefusedError):
        simulation.plain(HOSTILE[name])
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"n" * 50_000: _properties(5000, True)}},
        {"$id": f"http://host/{'n' * 50_000}/", **_properties(5000, {"$anchor": "here"})},
        _required(4000, {"type": "string", "minLength": 50_000}),
        {"not": {"prefixItems": [{}] * 5000}},
    ],
    ids=["a long name", "a long address", "long texts", "many denied elements"],
)
def test_a_schema_takes_a_bounded_room(schema: Any) -> None:
    asked = _body(schema)
    tracemalloc.start()
    try:
        with suppress(simulation.RefusedError):
            simulation.plain(asked)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 50_000_000


def test_a_number_is_one_that_json_can_write() -> None:
    """The least common multiple of these steps has more digits than Python writes."""
    steps = [{"multipleOf": (2 * index + 1) * 1e280} for index in range(60)]
    with pytest.raises(simulation.RefusedError):
        simulation.plain(_body({"type": "number", "minimum": 1, "allOf": steps}))


@pytest.mark.parametrize("keyword", ["type", "required"])
def test_a_list_in_which_something_is_twice_is_refused(keyword: str) -> None:
    """As OpenAI does: its elements have to be unique."""
    with pytest.raises(simulation.RefusedError, match="each once"):
        simulation.plain(_body({keyword: ["string", "string"]}))
