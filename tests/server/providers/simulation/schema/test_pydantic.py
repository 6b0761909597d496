"""Schemas as pydantic writes them: pydantic takes what is made for them."""

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Network
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator
from pydantic import UUID1, AnyUrl, Base64Str, BaseModel, Field, Json, PositiveInt, TypeAdapter

from flatfee.server.providers.simulation.schema import instance

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    colour: Colour


class Page(BaseModel, Generic[T]):
    items: list[T] = Field(min_length=2)
    next: "Page[T] | None"


class Tree(BaseModel):
    name: str
    children: list["Tree"]
    parent: "Tree | None"


class Expression(BaseModel):
    body: "Sum | Number" = Field(discriminator="op")


class Sum(BaseModel):
    op: Literal["sum"]
    left: Expression
    right: Expression


class Number(BaseModel):
    op: Literal["number"]
    value: float


class Times(BaseModel):
    at: datetime
    day: date
    clock: time
    lasting: timedelta
    maybe: datetime | None


class Constrained(BaseModel):
    model_config = {"extra": "forbid"}

    code: str = Field(pattern=r"^[A-Z]{3}-\d{4}$")
    short: str = Field(min_length=2, max_length=3)
    ratio: float = Field(gt=0, lt=1)
    step: int = Field(multiple_of=7, gt=10)
    price: Decimal = Field(max_digits=6, decimal_places=2, gt=3)
    unique: set[int] = Field(min_length=3)
    frozen: frozenset[Colour] = Field(min_length=2)
    pair: tuple[int, str]
    many: tuple[bool, ...]
    counts: dict[str, int] = Field(min_length=2)
    keys: dict[Annotated[str, Field(pattern="^k[0-9]$")], date] = Field(min_length=2)
    by_colour: dict[Colour, int]
    anything: Any
    one_of: int | list[str] | None
    literal: Literal[3, "three"] | None


class Kinds(BaseModel):
    identity: UUID
    old: UUID1
    url: AnyUrl
    address: IPv4Address
    network: IPv6Network
    raw: bytes
    encoded: Base64Str
    loaded: Json[list[PositiveInt]]
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(min_length=1)


TYPES: list[Any] = [
    Cat,
    Dog,
    Page[Dog],
    Page[Page[int]],
    Tree,
    Expression,
    Times,
    Constrained,
    Kinds,
    Annotated[Cat | Dog, Field(discriminator="kind")],
    list[Tree],
    dict[str, int],
    tuple[Literal["a"], Times],
    Annotated[list[date], Field(min_length=3)],
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_pydantic_takes_an_instance_of_its_schema(kind: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = adapter.json_schema()
    value = instance(schema)
    Draft202012Validator(schema).validate(value)
    adapter.validate_json(json.dumps(value))


FORMATS: list[Any] = [datetime, date, time, timedelta, UUID, AnyUrl, IPv4Address, IPv6Network, Decimal]


@pytest.mark.parametrize("kind", FORMATS, ids=str)
def test_as_many_different_values_of_a_format_as_are_asked_for(kind: Any) -> None:
    many: TypeAdapter[Any] = TypeAdapter(Annotated[set[kind], Field(min_length=30)])
    assert len(many.validate_python(instance(many.json_schema()))) == 30
