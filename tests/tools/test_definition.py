"""Tools as values: their wire form, their names, calling them, pickling them."""

import copy
import functools
import json
import pickle
from typing import Any

import openai
import pytest
from pydantic import BaseModel

import flatfee
from flatfee import FunctionTool, ToolDefinition, function_tool, pydantic_function_tool
from flatfee.client.exchange import encode


class Weather(BaseModel):
    """Tell the weather."""

    city: str


@function_tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@function_tool(name="other", description="Told by hand.")
async def renamed(city: str) -> str:
    return city


def plain(city: str) -> str:
    return city


WIRE = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "title": "weather",
            "properties": {"city": {"type": "string", "title": "City"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def test_a_tool_is_its_own_wire_form() -> None:
    assert weather == WIRE
    assert json.loads(encode({"tools": [weather]})) == {"tools": [WIRE]}
    assert len(weather) == 2
    with pytest.raises(KeyError):
        _ = weather["custom"]


def test_a_decorated_function_can_be_called_as_before() -> None:
    assert weather("Oz") == "sunny in Oz"
    assert isinstance(weather, FunctionTool)
    assert not weather.is_async


def test_name_and_description_may_be_given() -> None:
    assert (renamed.name, renamed.description, renamed.is_async) == ("other", "Told by hand.", True)
    again = function_tool(renamed, name="third")
    assert (again.name, again.function) == ("third", renamed.function)


def test_a_function_without_docstring_has_no_description() -> None:
    assert "description" not in function_tool(plain)["function"]


def test_a_partial_function_needs_a_name() -> None:
    given = functools.partial(plain, city="Oz")
    with pytest.raises(flatfee.ConfigurationError, match="'' cannot name a tool; pass name="):
        function_tool(given)
    assert function_tool(given, name="plain")() == "Oz"


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "é"])
def test_a_name_that_providers_refuse_is_refused(name: str) -> None:
    with pytest.raises(flatfee.ConfigurationError, match="cannot name a tool"):
        function_tool(plain, name=name)
    with pytest.raises(flatfee.ConfigurationError, match="cannot name a tool"):
        pydantic_function_tool(Weather, name=name)


@pytest.mark.parametrize("wrong", [Weather, 3, "weather"])
def test_what_is_no_function_is_refused(wrong: Any) -> None:
    with pytest.raises(flatfee.ConfigurationError, match="is no function"):
        function_tool(wrong)


@pytest.mark.parametrize("wrong", [plain, 3, Weather(city="x")])
def test_what_is_no_model_is_refused(wrong: Any) -> None:
    with pytest.raises(flatfee.ConfigurationError, match="is no pydantic model"):
        pydantic_function_tool(wrong)


def test_the_tool_of_a_model_has_the_models_name_and_docstring() -> None:
    tool = pydantic_function_tool(Weather)
    assert dict(tool) == openai.pydantic_function_tool(Weather)
    assert tool.read('{"city":"x"}') == Weather(city="x")
    assert isinstance(tool, ToolDefinition)


def test_a_model_without_docstring_has_no_description() -> None:
    class Bare(BaseModel):
        x: int

    assert "description" not in pydantic_function_tool(Bare)["function"]


def test_a_tool_shows_its_name_only() -> None:
    assert repr(weather) == "FunctionTool(name='weather')"


def test_tools_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        weather.name = "x"  # type: ignore[misc]  # this is the mistake


def test_a_decorated_function_is_itself_after_pickle_and_copy() -> None:
    assert pickle.loads(pickle.dumps(weather)) is weather
    assert copy.deepcopy(weather) is weather


@pytest.mark.parametrize(
    "tool",
    [
        function_tool(plain, name="p"),
        function_tool(functools.partial(plain), name="q"),
        pydantic_function_tool(Weather, name="w", description="d"),
    ],
    ids=str,
)
def test_other_tools_are_made_again(tool: Any) -> None:
    for same in (pickle.loads(pickle.dumps(tool)), copy.deepcopy(tool)):
        assert same == tool
        assert type(same) is type(tool)
        assert same.read('{"city":"x"}') == tool.read('{"city":"x"}')
