"""What a function tells a model: types, defaults, docs; and what no model can be told."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

import flatfee
from flatfee import function_tool
from flatfee.tools.signature import Docstring

if TYPE_CHECKING:
    from decimal import Decimal


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Place(BaseModel):
    city: str
    country: str | None = None


@dataclass
class Span:
    first: int
    last: int


class Options(TypedDict):
    verbose: bool


def schema_of(function: Any) -> Any:
    return function_tool(function).arguments.schema


def test_parameters_become_members_with_their_types() -> None:
    def plain(
        city: str, days: int, share: float, ok: bool, tags: list[str], unit: Unit, kind: Literal["a"]
    ) -> None: ...

    schema = schema_of(plain)
    kinds = {name: member.get("type") for name, member in schema["properties"].items() if name != "unit"}
    assert kinds == {
        "city": "string",
        "days": "integer",
        "share": "number",
        "ok": "boolean",
        "tags": "array",
        "kind": "string",
    }
    assert schema["required"] == ["city", "days", "share", "ok", "tags", "unit", "kind"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Unit"]["enum"] == ["c", "f"]


def test_arguments_are_read_into_the_types_of_the_parameters() -> None:
    def go(place: Place, spans: list[Span], *, unit: Unit, options: Options, later: Place | None = None) -> None: ...

    tool = function_tool(go)
    text = '{"place":{"city":"x"},"spans":[{"first":1,"last":2}],"unit":"f","options":{"verbose":true}}'
    assert tool.read(text) == {
        "place": Place(city="x"),
        "spans": [Span(1, 2)],
        "unit": Unit.FAHRENHEIT,
        "options": {"verbose": True},
    }


@pytest.mark.parametrize("text", ["{}", '{"city":3}', '{"city":"x","more":1}', "[]", "{"])
def test_arguments_that_do_not_fit_are_refused(text: str) -> None:
    def go(city: str) -> None: ...

    with pytest.raises(ValidationError):
        function_tool(go).read(text)


def test_a_call_without_arguments_may_come_as_no_text() -> None:
    def now() -> str:
        return "now"

    assert function_tool(now).read("") == {}
    assert schema_of(now)["properties"] == {}


def test_parameters_may_have_names_that_pydantic_models_cannot_have() -> None:
    def odd(schema: str, copy: int, model_config: str, _hidden: str) -> None: ...

    assert list(schema_of(odd)["properties"]) == ["schema", "copy", "model_config", "_hidden"]


# Strict where that is possible


def test_a_function_without_defaults_is_strict() -> None:
    def go(city: str, place: Place) -> None: ...

    tool = function_tool(go)
    assert tool.arguments.strict
    assert tool.arguments.schema["$defs"]["Place"]["required"] == ["city", "country"]


def test_a_default_of_none_can_be_given_as_null() -> None:
    def go(city: str, country: str | None = None) -> None: ...

    tool = function_tool(go)
    assert tool.arguments.strict
    assert tool.arguments.schema["required"] == ["city", "country"]
    assert tool.read('{"city":"x","country":null}') == {"city": "x", "country": None}
    assert tool.read('{"city":"x"}') == {"city": "x"}  # from models that nobody holds to the schema


def test_another_default_is_told_and_makes_the_schema_loose() -> None:
    def go(city: str, days: int = 3, unit: Unit = Unit.CELSIUS, odd: Any = object, wrong: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - people write it

    tool = function_tool(go)
    assert not tool.arguments.strict
    assert tool.arguments.schema["required"] == ["city"]
    members = tool.arguments.schema["properties"]
    assert (members["days"]["default"], members["unit"]["default"], members["wrong"]["default"]) == (3, "c", None)
    assert "default" not in members["odd"]
    assert tool.read('{"city":"x"}') == {"city": "x"}


def test_a_default_of_none_that_the_type_does_not_allow_makes_the_schema_loose() -> None:
    def go(days: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - people write it

    tool = function_tool(go)
    assert not tool.arguments.strict
    assert tool.read("{}") == {}


@pytest.mark.parametrize("annotation", [dict[str, int], Any])
def test_free_keys_and_free_values_make_the_schema_loose(annotation: Any) -> None:
    def go(what) -> None: ...  # type: ignore[no-untyped-def]  # annotated below

    go.__annotations__["what"] = annotation
    assert not function_tool(go).arguments.strict


# Descriptions


def test_descriptions_come_from_annotations_and_then_from_the_docstring() -> None:
    def go(city: Annotated[str, Field(description="Of the annotation.")], days: Annotated[int, Field(ge=1)]) -> None:
        """Do it.

        Args:
            city: Of the docstring.
            days: How many.
        """

    members = schema_of(go)["properties"]
    assert members["city"]["description"] == "Of the annotation."
    assert (members["days"]["description"], members["days"]["minimum"]) == ("How many.", 1)


def test_an_alias_is_the_name_that_the_model_sees() -> None:
    def go(city: Annotated[str, Field(alias="where")] = "here") -> None: ...

    tool = function_tool(go)
    assert list(tool.arguments.schema["properties"]) == ["where"]
    assert tool.read('{"where":"x"}') == {"city": "x"}


def test_a_docstring_is_read_by_its_sections() -> None:
    def go() -> None:
        """Tell the weather: sun or rain.

        More of it.
            Indented.

        Args:
            city (str): The city's name,
                and more of it.
            days: How many: one or two.
            *rest: The rest.
            bare:
                Told below.
            no colon here

        Returns:
            city: not a parameter
        """

    docs = Docstring.of(go)
    assert docs.description == "Tell the weather: sun or rain.\n\nMore of it.\n    Indented."
    assert docs.arguments == {
        "city": "The city's name, and more of it.",
        "days": "How many: one or two.",
        "rest": "The rest.",
        "bare": "Told below. no colon here",
    }


@pytest.mark.parametrize("doc", [None, "", "   "])
def test_no_docstring_tells_nothing(doc: str | None) -> None:
    def go() -> None: ...

    go.__doc__ = doc
    assert Docstring.of(go) == Docstring(None, {})


def test_lines_before_the_first_argument_belong_to_none() -> None:
    def go() -> None:
        """Do.

        Args:
            not an argument
            city: x
        """

    assert Docstring.of(go).arguments == {"city": "x"}


# What no model can be told


def several(city: str, *more: str) -> None: ...
def free(city: str, **more: str) -> None: ...
def bare(city) -> None: ...  # type: ignore[no-untyped-def]  # this is the mistake
def first(city: str, /) -> None: ...
def unknown(city: Exception) -> None: ...
def unimported(amount: Decimal) -> None: ...
def fielded(amount: int = Field(3, gt=0)) -> None: ...


class Holder:
    def method(self, city: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (several, r"\*more: .*str.* of the function several .*one by one"),
        (free, r"\*\*more: .*str.* of the function free .*one by one"),
        (bare, r"city of the function bare has no annotation.*'city: str'"),
        (first, r"city: .*str.* of the function first is positional only"),
        (unknown, r"unknown cannot be described to a model"),
        (unimported, r"unimported has an annotation that names 'Decimal'"),
        (fielded, r"amount of the function fielded has a Field\(\) as its default.*Annotated"),
        (Holder.method, r"self of the function method has no annotation.*bound method"),
        (type("C", (), {"__call__": 3, "__name__": "c"})(), r"The signature of c cannot be read"),
    ],
)
def test_what_no_model_can_be_told_is_named(function: Any, message: str) -> None:
    with pytest.raises(flatfee.ConfigurationError, match=message):
        function_tool(function)


def test_a_bound_method_has_no_self_to_tell() -> None:
    assert list(schema_of(Holder().method)["properties"]) == ["city"]


def test_quoted_types_are_looked_up_wherever_they_stand() -> None:
    def go(places: list["Place"], span: "Span | None" = None) -> "Decimal":  # noqa: UP037 - the quotes are the point
        raise NotImplementedError

    found = function_tool(go).read('{"places":[{"city":"Oz"}],"span":{"first":1,"last":2}}')
    assert found == {"places": [Place(city="Oz")], "span": Span(1, 2)}


def test_a_result_is_told_to_nobody_so_its_type_need_not_be_known() -> None:
    def go(city: str) -> Decimal:
        raise NotImplementedError

    assert list(schema_of(go)["properties"]) == ["city"]


def test_a_partial_and_an_object_are_what_they_call() -> None:
    """What a partial has fixed is the program's: neither told to the model nor its to change."""

    def go(days: int, city: str, key: str, connection: Exception) -> tuple[str, str]:
        """Tell the weather."""
        return city, key

    class Tool:
        def __call__(self, place: Place) -> None: ...

    tool = function_tool(partial(partial(go, 3, key="secret"), connection=OSError()), name="three_days")
    assert tool.description == "Tell the weather."
    assert list(tool.arguments.schema["properties"]) == ["city"]
    assert tool(**tool.read('{"city":"Oz"}')) == ("Oz", "secret")
    with pytest.raises(ValidationError, match="key"):
        tool.read('{"city":"Oz","key":"mine"}')
    assert function_tool(Tool(), name="look").read('{"place":{"city":"Oz"}}') == {"place": Place(city="Oz")}
