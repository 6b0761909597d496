"""A valid value for any JSON schema; jsonschema, which had no part in making it, says so."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator, Draft7Validator, Draft202012Validator

from flatfee.server.providers.simulation.schema import Budget, JsonSchema, UnanswerableError, instance
from flatfee.server.providers.simulation.schema.budget import MOST_STEPS

pytestmark = pytest.mark.slow
"""It goes through many cases; ``make check`` has the time."""

NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["next"],
}
TREE = {
    "$ref": "#/$defs/expression",
    "$defs": {
        "expression": {"oneOf": [{"$ref": "#/$defs/sum"}, {"$ref": "#/$defs/number"}]},
        "sum": {
            "type": "object",
            "properties": {
                "kind": {"const": "sum"},
                "left": {"$ref": "#/$defs/expression"},
                "right": {"$ref": "#/$defs/expression"},
            },
            "required": ["kind", "left", "right"],
        },
        "number": {
            "type": "object",
            "properties": {"kind": {"const": "number"}, "value": {"type": "number"}},
            "required": ["kind", "value"],
        },
    },
}
LEAF = {"kind": "number", "value": 0}

EXACT: list[tuple[Any, Any]] = [
    (True, "text"),
    ({}, "text"),
    ({"const": 5}, 5),
    ({"default": [1]}, [1]),
    ({"default": 5, "type": "string"}, "text"),
    ({"enum": ["a", "b"]}, "a"),
    ({"enum": [1, "b"], "type": "string"}, "b"),
    ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
    ({"oneOf": [{"type": "boolean"}]}, True),
    ({"allOf": [{"type": "integer"}, {"minimum": 4}]}, 4),
    ({"type": ["integer", "null"]}, 0),
    ({"properties": {"a": {"type": "null"}}}, {}),
    ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"]}, {"b": "text"}),
    ({"type": "object", "required": ["unknown"]}, {"unknown": "text"}),
    ({"type": "array"}, []),
    ({"type": "array", "minItems": 2, "items": {"type": "boolean"}}, [True, True]),
    ({"type": "integer", "minimum": 2.5}, 3),
    ({"type": "integer", "maximum": -2.5}, -3),
    ({"type": "integer", "exclusiveMinimum": 2.5}, 3),
    ({"type": "integer", "exclusiveMaximum": 0}, -1),
    ({"type": "integer", "minimum": 4, "multipleOf": 3}, 6),
    ({"multipleOf": 4, "allOf": [{"multipleOf": 6, "minimum": 1}]}, 12),
    ({"type": "number", "minimum": 1, "maximum": 2}, 1),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, 0.25),
    ({"type": "number", "multipleOf": 0.01, "minimum": 0.055}, 0.06),
    ({"type": "string", "minLength": 6}, "text.."),
    ({"type": "string", "maxLength": 2}, "te"),
    ({"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"}, "AA0000"),
    ({"type": "string", "format": "date-time"}, "2024-01-01T00:00:00Z"),
    ({"type": "string", "format": "date", "pattern": "^1999"}, "1999-01-01"),
    ({"type": "string", "format": "email", "maxLength": 8}, "a@a.aa"),
    ({"type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "integer"}}, "0"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "boolean"}}}, True),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}}, True),
    ({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "type": "null"}}}, None),
    ({"$ref": "http://x/a", "$defs": {"a": {"$id": "http://x/a", "type": "null"}}}, None),
    ({"$ref": "#/$defs/node", "$defs": {"node": NODE}}, {"next": None}),
    (TREE, LEAF),
    ({**TREE, "$ref": "#/$defs/sum"}, {"kind": "sum", "left": LEAF, "right": LEAF}),
    ({"not": {"type": ["string", "integer", "number"]}}, True),
    ({"not": {"required": ["a"]}}, {}),
]


@pytest.mark.parametrize(("schema", "value"), EXACT)
def test_an_instance_is_small_and_natural(schema: Any, value: Any) -> None:
    found = instance(schema)
    assert found == value
    assert type(found) is type(value)
    Draft202012Validator(schema).validate(found)


HARD = [json.loads(line) for line in Path(__file__).with_name("hard.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("schema", HARD, ids=range(len(HARD)))
def test_hard_schemas_have_valid_instances(schema: Any) -> None:
    Draft202012Validator(schema).validate(instance(schema))


OLD: list[tuple[Any, Any]] = [
    (
        Draft7Validator,
        {
            "definitions": {"a": {"type": "integer"}},
            "items": [{"$ref": "#/definitions/a"}, {"type": "null"}],
            "minItems": 2,
            "type": "array",
        },
    ),
    (Draft7Validator, {"items": [{}, {}], "additionalItems": {"type": "integer"}, "minItems": 3, "type": "array"}),
    (Draft7Validator, {"type": "object", "required": ["a"], "dependencies": {"a": ["b"], "b": {"required": ["c"]}}}),
    (
        Draft7Validator,
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": {"type": "integer"}},
            "allOf": [{"$ref": "#/definitions/a", "type": "string"}],
        },
    ),
    (
        Draft7Validator,
        {
            "definitions": {"a": {"$id": "#a", "type": "null"}},
            "$ref": "#a",
            "$schema": "http://json-schema.org/draft-07/schema#",
        },
    ),
    (Draft4Validator, {"type": "integer", "minimum": 3, "exclusiveMinimum": True}),
    (Draft4Validator, {"type": "number", "maximum": -3, "exclusiveMaximum": True}),
]


@pytest.mark.parametrize(("validator", "schema"), OLD, ids=range(len(OLD)))
def test_the_spellings_of_older_drafts_are_known(validator: Any, schema: Any) -> None:
    validator(schema).validate(instance(schema))


@pytest.mark.parametrize(
    ("schema", "where", "why"),
    [
        (False, "", "no value"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "", "no value was found"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "enum": [1]}}, "required": ["a"]},
            "/properties/a",
            "no value",
        ),
        (
            {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]},
            "/properties/n",
            "holds itself without an end",
        ),
        ({"type": "array", "minItems": 10**9}, "", "at most 10000 elements"),
        ({"type": "string", "minLength": 10**9}, "", "at most 50000 characters"),
        ({"type": "array", "uniqueItems": True, "minItems": 3, "items": {"type": "boolean"}}, "", "no value"),
        (
            {"type": "object", "required": ["a", "b"], "maxProperties": 1},
            "",
            "2 members are required, and maxProperties is 1",
        ),
        ({"type": "object", "minProperties": 1, "additionalProperties": False}, "", "minProperties is 1"),
        ({"type": "objet"}, "/type", "it has to be one or more of string, integer"),
        ({"properties": {"a": {"required": "b"}}}, "/properties/a/required", "a list of names"),
        ({"items": 7}, "/items", "a schema, or a list of schemas, and is 7"),
        ({"properties": []}, "/properties", "an object of schemas"),
        ({"dependencies": {"a": 5}}, "/dependencies", "an object of schemas or lists of names"),
        ({"multipleOf": 0}, "/multipleOf", "a number above 0"),
        ({"maximum": float("inf")}, "/maximum", "a finite number"),
        ({"uniqueItems": "yes"}, "/uniqueItems", "true or false"),
        ({"$ref": "#/nowhere/at/all"}, "/$ref", "there is no schema at '#/nowhere/at/all'"),
        ({"$ref": "http://example.com/schema.json"}, "/$ref", "refer to a part of this schema"),
        ({"$ref": "http://[/"}, "/$ref", "there is no schema"),
        (
            {"prefixItems": [{"$ref": "#/prefixItems/9"}], "minItems": 1, "type": "array"},
            "/prefixItems/0/$ref",
            "there is no",
        ),
        ({"type": "string", "pattern": "("}, "/pattern", "the pattern '('"),
    ],
)
def test_what_has_no_instance_is_told_with_place_and_cure(schema: Any, where: str, why: str) -> None:
    with pytest.raises(UnanswerableError) as raised:
        instance(schema)
    assert raised.value.where == where
    assert why in raised.value.why


def doubling(levels: int, keyword: str) -> Any:
    """Return a schema whose options double with each level."""
    parts: dict[str, Any] = {"p0": {"type": "string"}}
    for level in range(1, levels + 1):
        inner = {"$ref": f"#/$defs/p{level - 1}"}
        parts[f"p{level}"] = {keyword: [{"allOf": [inner, {"maxLength": 3}, {"minLength": 4}]}, {"not": inner}]}
    return {"$ref": f"#/$defs/p{levels}", "$defs": parts}


def nested(levels: int, keyword: str) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(levels):
        schema = {keyword: [schema] if keyword.endswith("Of") else schema}
    return schema


NAMES = [f"p{index}" for index in range(10_000)]
LARGE: dict[str, Any] = {
    "ten thousand properties": {"type": "object", "properties": {name: {"type": "string"} for name in NAMES}},
    "ten thousand required": {
        "type": "object",
        "properties": {name: {"type": "string"} for name in NAMES},
        "required": NAMES,
    },
    "ten thousand options": {
        "oneOf": [{"type": "object", "properties": {"k": {"const": name}}, "required": ["k"]} for name in NAMES]
    },
    "a large enum": {"enum": list(range(50_000)), "minimum": 49_000},
    "many elements": {"type": "array", "minItems": 10_000, "items": {"type": "array", "minItems": 10_000}},
    "many different": {
        "type": "array",
        "minItems": 10_000,
        "uniqueItems": True,
        "items": {"type": "array", "items": {"type": "integer"}},
    },
    "many names": {"type": "object", "minProperties": 50_000},
    "a long text": {"type": "string", "minLength": 50_000, "pattern": "^(a|b)*c$"},
    "a slow pattern": {"type": "string", "pattern": "(.*a.{30}){9}"},
    "a hopeless pattern": {"type": "string", "pattern": "^(a|b)*$", "allOf": [{"pattern": "c"}]},
    "doubling oneOf": doubling(40, "oneOf"),
    "doubling anyOf": doubling(40, "anyOf"),
    "deep items": {**nested(200, "items"), "type": "array"},
    "deep allOf": nested(300, "allOf"),
    "deep anyOf": nested(300, "anyOf"),
    "deep not": nested(300, "not"),
    "deep oneOf": nested(300, "oneOf"),
    "a circle": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
    "a broad recursion": {
        "type": "object",
        "properties": {name: {"$ref": "#"} for name in NAMES[:40]},
        "required": NAMES[:40],
    },
    "a huge count": {"type": "array", "contains": {"type": "integer"}, "minContains": 10**12},
}


@pytest.mark.parametrize("name", LARGE)
def test_any_schema_takes_bounded_work(name: str) -> None:
    """Each step is a few microseconds; what is not found by then is refused. A body gets five times as many."""
    budget = Budget(MOST_STEPS // 5)
    try:
        found = JsonSchema(LARGE[name], budget).instance()
    except UnanswerableError as unanswerable:
        assert unanswerable.why  # noqa: PT017 - either outcome will do
    else:
        if "deep" not in name:
            Draft202012Validator(LARGE[name]).validate(found)
    # The last step may have been a large one.
    assert budget.left > -60_000


def test_a_deep_value_is_found_and_a_deeper_one_refused() -> None:
    def tower(levels: int) -> Any:
        schema: Any = {"type": "null"}
        for _ in range(levels):
            schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
        return schema

    Draft202012Validator(tower(30)).validate(instance(tower(30)))
    with pytest.raises(UnanswerableError, match="more than 32 objects and arrays deep"):
        instance(tower(40))


names = st.sampled_from(["a", "b", "c"])
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, "", "a", "text"])
bounds = st.integers(-5, 5)
keywords: dict[str, Any] = {
    "type": st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object", ["null", "array"]]),
    "enum": st.lists(scalars, min_size=1, max_size=3),
    "const": scalars,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), bounds),
    "multipleOf": st.sampled_from([1, 2, 3, 0.5]),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), st.integers(0, 3)
    ),
    "pattern": st.sampled_from(["^a", "b$", "^[0-9]+$", "e.t", ""]),
    "uniqueItems": st.booleans(),
    "required": st.lists(names, unique=True, max_size=3),
    "dependentRequired": st.dictionaries(names, st.lists(names, unique=True, max_size=2), max_size=2),
}


def compound(inner: Any) -> dict[str, Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(names, inner, max_size=3)
    return {
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), some),
        **dict.fromkeys(("not", "if", "then", "else", "items", "contains", "additionalProperties"), inner),
        **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems"), inner),
        **dict.fromkeys(("properties", "dependentSchemas"), named),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=2),
        "propertyNames": st.sampled_from([{"maxLength": 1}, {"pattern": "^[a-c]"}, True]),
    }


def some_of(parts: dict[str, Any]) -> Any:
    chosen = st.lists(st.sampled_from(sorted(parts)), unique=True, max_size=3)
    return chosen.flatmap(lambda found: st.fixed_dictionaries({name: parts[name] for name in found}))


schemas = st.recursive(
    some_of(keywords), lambda inner: st.booleans() | some_of({**keywords, **compound(inner)}), max_leaves=6
)


@given(schemas)
def test_an_instance_of_any_schema_is_valid(schema: Any) -> None:
    try:
        found = instance(schema)
    except UnanswerableError:
        return  # it contradicts itself, as far as was searched
    Draft202012Validator(schema).validate(found)


@given(
    schemas,
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=5
    ),
)
def test_a_value_fits_where_jsonschema_says_so(schema: Any, value: Any) -> None:
    assert JsonSchema(schema, Budget()).fits(value) == Draft202012Validator(schema).is_valid(value)
    if Draft202012Validator(schema).is_valid(value) and Draft202012Validator({"maxLength": 9}).is_valid(value):
        # What has a value is not always answered, but what is answered is never wrong.
        assert JsonSchema({"allOf": [schema, {"const": value}]}, Budget()).instance() == value
