"""Schemas of types: the same as openai-python's where that one's are right, and what differs elsewhere."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar, Union
from uuid import UUID

import pydantic
import pytest
from openai import pydantic_function_tool
from openai.lib._parsing._completions import type_to_response_format_param
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

import flatfee
from flatfee.client.parsing import Expectation
from flatfee.tools.schema import described, loose_place, strict_schema, structure_of

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Priority(enum.IntEnum):
    LOW = 1


class Flat(BaseModel):
    """A flat model."""

    name: str = Field(description="The name.")
    size: float
    ok: bool
    many: list[int]


class Inner(BaseModel):
    value: int


class Nested(BaseModel):
    inner: Inner
    listed: list[Inner]
    told: Inner = Field(description="Told beside the reference.")
    either: Inner | Flat
    maybe: Optional[Inner] = None  # noqa: UP045 - how many still write it


class Enums(BaseModel):
    colour: Colour
    told: Colour = Field(description="Told beside the reference.")
    defaulted: Colour = Colour.RED
    priority: Priority
    literal: Literal["a", "b"]
    one: Literal["only"]


class Defaults(BaseModel):
    number: int = 3
    text: str | None = None
    texts: list[str] = Field(default_factory=list)
    union: Union[int, str, None] = Field(default=None, description="One of both.")  # noqa: UP007 - as above


class Tree(BaseModel):
    """A recursive model."""

    name: str
    children: list[Tree]
    parent: Tree | None = None


class Left(BaseModel):
    right: Right | None = None


class Right(BaseModel):
    left: Left | None = None


class Holder(BaseModel):
    tree: Tree
    left: Left


class Formats(BaseModel):
    when: datetime
    identity: UUID
    amount: Decimal
    short: Annotated[str, Field(min_length=1, max_length=5, pattern="^a")]
    bounded: Annotated[int, Field(ge=1, le=9)]
    pair: tuple[int, int]
    some: set[str]


class Aliased(BaseModel):
    name: str = Field(alias="theName")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Other title")
    x: int


class Box(BaseModel, Generic[T]):
    content: T


class Parent(Inner):
    more: str


class Empty(BaseModel):
    pass


@pydantic.dataclasses.dataclass
class Dataclass:
    name: str
    inner: Inner
    maybe: int | None = None


MODELS: list[type[BaseModel]] = [
    *(Flat, Inner, Nested, Enums, Defaults, Tree, Left, Right, Holder, Formats, Aliased, Closed, Parent, Empty)
]
by_name = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


@by_name
def test_the_format_of_a_model_is_openais(model: type[BaseModel]) -> None:
    assert Expectation.of(model).wire["response_format"] == type_to_response_format_param(model)


@by_name
def test_the_tool_of_a_model_is_openais(model: type[BaseModel]) -> None:
    ours = flatfee.pydantic_function_tool(model, name="tool", description="Does it.")
    assert dict(ours) == pydantic_function_tool(model, name="tool", description="Does it.")


def test_the_format_of_a_dataclass_is_openais() -> None:
    assert Expectation.of(Dataclass).wire["response_format"] == type_to_response_format_param(Dataclass)


@by_name
def test_a_strict_schema_closes_every_object_and_leaves_references_alone(model: type[BaseModel]) -> None:
    def nodes(found: Any) -> Iterator[dict[str, Any]]:
        if isinstance(found, dict):
            yield found
        for child in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
            yield from nodes(child)

    schema = structure_of(model).schema
    for node in nodes(schema):
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert sorted(node.get("required", [])) == sorted(node.get("properties", {}))
        if "$ref" in node:
            assert len(node) == 1
        assert node.get("default", "something") is not None
    json.dumps(schema)


# Where ours differ


def test_a_generic_model_has_a_name_that_providers_take() -> None:
    assert structure_of(Box[int]).name == "Box_int_"


def test_a_reference_to_itself_with_a_description_does_not_unfold_for_ever() -> None:
    class Node(BaseModel):
        next: Annotated[Node, Field(description="The next one.")] | None = None

    Node.model_rebuild(_types_namespace={"Node": Node})
    schema = structure_of(Node).schema
    assert schema["properties"]["next"]["anyOf"][0] == {"$ref": "#/$defs/Node"}


def test_a_union_with_a_discriminator_becomes_one_that_strict_mode_knows() -> None:
    class Cat(BaseModel):
        kind: Literal["cat"]

    class Dog(BaseModel):
        kind: Literal["dog"]

    class Pets(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]

    structure = described(Pets)
    assert structure.strict
    assert structure.schema["properties"]["pet"]["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert "oneOf" not in json.dumps(structure.schema)
    assert structure.read('{"pet":{"kind":"dog"}}').pet == Dog(kind="dog")


@pytest.mark.parametrize(
    ("annotation", "place"),
    [
        (dict[str, int], "$.member"),
        (dict[str, Any], "$.member"),
        (Any, "$.member"),
        (list[dict[str, str]], "$.member[]"),
        (dict[Annotated[str, Field(pattern="^a$")], int] | None, "$.member"),
    ],
)
def test_what_has_no_strict_form_is_described_as_pydantic_does(annotation: Any, place: str) -> None:
    model = pydantic.create_model("Loose", member=(annotation, ...), defaulted=(int, 3))
    structure = described(model)
    assert loose_place(structure.schema) == place
    assert not structure.strict
    assert structure.schema == model.model_json_schema()


def test_a_model_that_takes_other_members_is_not_strict() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        x: int

    assert not described(Open).strict
    assert described(pydantic.create_model("Outer", open=(Open, ...))).schema["$defs"]["Open"]["additionalProperties"]


def test_an_intersection_of_one_is_that_one() -> None:
    schema = {"type": "object", "properties": {"a": {"allOf": [{"type": "string"}], "description": "A."}}}
    assert strict_schema(schema)["properties"]["a"] == {"type": "string", "description": "A."}


def test_the_schema_that_came_in_is_left_as_it_was() -> None:
    schema = Nested.model_json_schema()
    strict_schema(schema)
    assert schema == Nested.model_json_schema()


# Reading


@dataclass
class Plain:
    """A dataclass of the standard library."""

    x: int


@pytest.mark.parametrize(
    ("kind", "value"), [(Plain, Plain(1)), (TypeAdapter(Plain), Plain(1)), (Closed, Closed(x=1))], ids=str
)
def test_text_is_read_into_a_value_of_the_type(kind: Any, value: object) -> None:
    assert structure_of(kind).read('{"x":1}') == value


def test_a_misfit_does_not_show_what_was_read() -> None:
    with pytest.raises(ValidationError) as caught:
        structure_of(Plain).read('{"x":"secret"}')
    assert "secret" not in str(caught.value)


def test_a_class_is_described_once() -> None:
    assert structure_of(Flat) is structure_of(Flat)


class Unfinished(BaseModel):
    x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821, UP037 - this is the mistake


@pytest.mark.parametrize("kind", [Unfinished, Exception, 3])
def test_what_pydantic_does_not_know_is_an_error_that_names_it(kind: Any) -> None:
    with pytest.raises(flatfee.ConfigurationError, match="cannot be described to a model"):
        structure_of(kind)
