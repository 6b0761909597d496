"""``parse``: what is asked for, what an answer is read into, and what becomes of one that does not fit."""

import copy
import json
import pickle
import traceback
import warnings
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel, TypeAdapter, field_validator
from typing_extensions import TypedDict

import flatfee
from flatfee import ParsedChatCompletion, function_tool, pydantic_function_tool

SECRET = "the secret of the answer"


class Step(BaseModel):
    explanation: str
    output: str


class Maths(BaseModel):
    """A solution."""

    steps: list[Step]
    answer: str


@dataclass
class Plain:
    answer: str


class Typed(TypedDict):
    answer: str


class Weather(BaseModel):
    """Tell the weather."""

    city: str


@function_tool
def forecast(city: str, step: Step, days: int = 3) -> str:
    return city


MATHS = Maths(steps=[Step(explanation="add", output="4")], answer="4")
ARGUMENTS = '{"city":"Oz"}'


def call_of(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.fixture
def reply(answer: Any) -> Any:
    """Return a factory of answers: content, or parts of the choice."""

    def make(content: str | None = None, *, finish_reason: str = "stop", usage: Any = None, **message: Any) -> Any:
        said = {"role": "assistant", "content": content, **message}
        return answer(choices=[{"index": 0, "message": said, "finish_reason": finish_reason}])

    return make


async def parse(d: Any, response_format: Any = Maths, **options: Any) -> Any:
    given = {"messages": [{"role": "user", "content": "hi"}], "model": "auto", **options}
    return await d.wait(d.client.chat.completions.parse(response_format=response_format, **given))


async def test_content_is_read_into_the_model(driver: Any, reply: Any) -> None:
    d = driver(reply(MATHS.model_dump_json()))
    found = await parse(d, temperature=0.5)
    assert found.choices[0].message.parsed == MATHS
    assert found.receipt.request_id == "req_1"
    assert isinstance(found, flatfee.ChatCompletion)
    sent = json.loads(d.requests[0].content)
    assert sent["temperature"] == 0.5
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["response_format"]["json_schema"]["name"] == "Maths"
    assert sent["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize(
    ("kind", "value"), [(Plain, Plain("4")), (Typed, {"answer": "4"}), (TypeAdapter(Typed), {"answer": "4"})]
)
async def test_other_types_than_models_do_as_well(driver: Any, reply: Any, kind: Any, value: object) -> None:
    assert (await parse(driver(reply('{"answer":"4"}')), kind)).choices[0].message.parsed == value


async def test_a_format_given_as_json_goes_out_as_it_is_and_reads_nothing(driver: Any, reply: Any) -> None:
    d = driver(reply("{}"))
    found = await parse(d, {"type": "json_object"})
    assert found.choices[0].message.parsed is None
    assert json.loads(d.requests[0].content)["response_format"] == {"type": "json_object"}


async def test_without_a_format_nothing_is_asked_for_or_read(driver: Any, reply: Any) -> None:
    d = driver(reply("text", finish_reason="length"))
    assert (await parse(d, flatfee.NOT_GIVEN)).choices[0].message.parsed is None
    assert "response_format" not in json.loads(d.requests[0].content)


async def test_a_refusal_is_not_parsed(driver: Any, reply: Any) -> None:
    message = (await parse(driver(reply("no", refusal="I will not.")))).choices[0].message
    assert (message.parsed, message.refusal) == (None, "I will not.")


async def test_text_beside_tool_calls_is_not_the_answer_yet(driver: Any, reply: Any) -> None:
    d = driver(reply("Let me see.", tool_calls=[call_of("Weather", ARGUMENTS)], finish_reason="tool_calls"))
    message = (await parse(d, tools=[pydantic_function_tool(Weather)])).choices[0].message
    assert message.parsed is None
    assert message.tool_calls[0].function.parsed_arguments == Weather(city="Oz")


@pytest.mark.parametrize(
    ("tool", "arguments", "parsed"),
    [
        (pydantic_function_tool(Weather, name="t"), ARGUMENTS, Weather(city="Oz")),
        (openai.pydantic_function_tool(Weather, name="t"), ARGUMENTS, Weather(city="Oz")),
        (
            function_tool(forecast, name="t"),
            '{"city":"Oz","step":{"explanation":"a","output":"b"}}',
            {"city": "Oz", "step": Step(explanation="a", output="b")},
        ),
        ({"type": "function", "function": {"name": "t", "strict": True}}, ARGUMENTS, {"city": "Oz"}),
        ({"type": "function", "function": {"name": "t"}}, ARGUMENTS, None),
        ({"type": "function", "function": {"name": "other", "strict": True}}, ARGUMENTS, None),
        ({"type": "custom", "custom": {"name": "t"}}, ARGUMENTS, None),
    ],
)
async def test_arguments_are_read_into_what_the_tool_takes(
    driver: Any, reply: Any, tool: Any, arguments: str, parsed: object
) -> None:
    d = driver(reply(tool_calls=[call_of("t", arguments)], finish_reason="tool_calls"))
    function = (await parse(d, flatfee.NOT_GIVEN, tools=[tool])).choices[0].message.tool_calls[0].function
    assert (function.arguments, function.parsed_arguments) == (arguments, parsed)


@pytest.mark.parametrize("way", ["with_raw_response", "with_streaming_response"])
async def test_the_response_is_to_be_had_as_well(driver: Any, reply: Any, way: str) -> None:
    d = driver(reply(MATHS.model_dump_json()))
    parse = getattr(d.client.chat.completions, way).parse
    asked = parse(model="auto", messages=[{"role": "user", "content": "hi"}], response_format=Maths)
    if way == "with_raw_response":
        response = await d.wait(asked)
        found = response.parse()
    elif d.kind == "sync":
        with asked as response:
            found = response.parse()
    else:
        async with asked as response:
            found = await response.parse()
    assert response.headers["x-flatfee-lane"] == "premium"
    assert found.choices[0].message.parsed == MATHS


# What does not fit


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (f"Sure! Here is the JSON: {MATHS.model_dump_json()} {SECRET}", "json_invalid"),
        (json.dumps({"steps": [{"explanation": SECRET}], "answer": "4"}), "missing at steps.0.output"),
        (json.dumps({"steps": SECRET, "answer": 4}), "list_type at steps, string_type at answer"),
    ],
)
async def test_an_answer_that_does_not_fit_is_kept_and_not_shown(
    driver: Any, reply: Any, content: str, where: str
) -> None:
    """Text around JSON is not cut away: what the model meant is for the caller to guess, who has it all."""
    with pytest.raises(flatfee.StructuredOutputError) as caught:
        await parse(driver(reply(content)))
    error = caught.value
    assert str(error) == f"The answer does not fit Maths: {where}."
    assert SECRET not in "".join(traceback.format_exception(error))
    kept: Any
    for kept in (error, pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert kept.completion.choices[0].message.content == content
        assert kept.receipt.request_id == "req_1"
        assert kept.completion.receipt == kept.receipt


async def test_a_validator_that_fails_by_itself_loses_nobody_the_answer(driver: Any, reply: Any) -> None:
    class Checked(BaseModel):
        answer: str

        @field_validator("answer")
        @classmethod
        def look_up(cls, answer: str) -> str:
            raise KeyError("table")

    with pytest.raises(flatfee.StructuredOutputError, match="a validator of Checked raised KeyError") as caught:
        await parse(driver(reply('{"answer":"4"}')), Checked)
    assert caught.value.completion.choices[0].message.content == '{"answer":"4"}'
    assert caught.value.receipt


async def test_keys_of_an_answer_are_not_shown_either(driver: Any, reply: Any) -> None:
    class Counts(BaseModel):
        counts: dict[str, int]

    d = driver(reply(json.dumps({"counts": {SECRET: "x"}})))
    with pytest.raises(flatfee.StructuredOutputError, match=r"int_parsing at counts\.\*"):
        await parse(d, Counts)
    assert json.loads(d.requests[0].content)["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize(
    ("tool", "arguments", "where"),
    [
        (pydantic_function_tool(Weather, name="t"), "{}", "missing at city"),
        ({"type": "function", "function": {"name": "t", "strict": True}}, "{", "not JSON"),
    ],
)
async def test_arguments_that_do_not_fit_are_an_error(
    driver: Any, reply: Any, tool: Any, arguments: str, where: str
) -> None:
    d = driver(reply(tool_calls=[call_of("t", arguments)]))
    with pytest.raises(flatfee.StructuredOutputError, match=f"The arguments for the tool t do not fit: {where}"):
        await parse(d, tools=[tool])


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("length", flatfee.LengthFinishReasonError),
        ("content_filter", flatfee.ContentFilterFinishReasonError),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_error_by_name(
    driver: Any, reply: Any, reason: str, kind: type[flatfee.APIError]
) -> None:
    with pytest.raises(kind) as caught:
        await parse(driver(reply(SECRET, finish_reason=reason)))
    assert SECRET not in str(caught.value)
    kept: Any = pickle.loads(pickle.dumps(caught.value))
    assert kept.completion.choices[0].message.content == SECRET
    assert kept.receipt.request_id == "req_1"
    assert kind.__name__ in dir(openai)


async def test_an_answer_that_does_not_fit_is_not_asked_for_again(driver: Any, reply: Any) -> None:
    """It was paid for; what to do about it is the caller's to say."""
    d = driver(reply("text"))
    with pytest.raises(flatfee.StructuredOutputError):
        await parse(d)
    assert len(d.requests) == 1


# What cannot be asked for


class Odd:
    pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"response_format": list[int]}, "which is no object"),
        ({"response_format": TypeAdapter(int)}, "which is no object"),
        ({"response_format": Odd}, "Odd cannot be described"),
        ({"tools": [Weather]}, "use function_tool"),
        ({"tools": [pydantic_function_tool(Weather)] * 2}, "Two tools have the name 'Weather'"),
        ({"stream": True}, "stream is true"),
    ],
)
async def test_what_cannot_be_read_is_refused_before_anything_is_sent(driver: Any, options: Any, message: str) -> None:
    d = driver(httpx.Response(500))
    with pytest.raises(flatfee.ConfigurationError, match=message):
        await parse(d, **options)
    assert d.requests == []


@pytest.mark.parametrize("options", [{"response_format": Maths}, {"tools": [Maths]}, {"stream": True, "tools": [Odd]}])
async def test_create_says_who_takes_classes(driver: Any, options: Any) -> None:
    d = driver(httpx.Response(500))
    with pytest.raises(flatfee.ConfigurationError, match=r"the class \w+ has no place .* chat.completions.parse\(\)"):
        await d.create(**options)
    assert d.requests == []


# Parsed answers as values


async def parsed(driver: Any, reply: Any) -> ParsedChatCompletion[Maths]:
    tools = [pydantic_function_tool(Weather), forecast]
    d = driver(reply(MATHS.model_dump_json()))
    found: ParsedChatCompletion[Maths] = await parse(d, tools=tools)
    return found


@pytest.mark.pain(16)
async def test_a_parsed_completion_can_be_pickled_copied_and_dumped(driver: Any, reply: Any) -> None:
    """Pain 16: openai-python's parsed completions cannot be pickled, and warn when they are dumped."""
    found = await parsed(driver, reply)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found), found.model_copy()):
            assert same == found
            assert same.choices[0].message.parsed == MATHS
            assert same.receipt == found.receipt
        assert found.model_dump()["choices"][0]["message"]["parsed"] == MATHS.model_dump()
        assert json.loads(found.model_dump_json())["choices"][0]["message"]["parsed"] == MATHS.model_dump()
        again = ParsedChatCompletion[Maths].model_validate(found.model_dump())
        assert again.choices[0].message.parsed == MATHS


@pytest.mark.pain(16)
async def test_parsed_arguments_can_be_pickled_copied_and_dumped(driver: Any, reply: Any) -> None:
    """Pain 16, for the arguments of tool calls."""
    d = driver(reply(tool_calls=[call_of("Weather", ARGUMENTS)]))
    found = await parse(d, tools=[pydantic_function_tool(Weather)])
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found
    dumped = found.model_dump()["choices"][0]["message"]["tool_calls"][0]["function"]
    assert dumped["parsed_arguments"] == {"city": "Oz"}
    assert '"parsed_arguments":{"city":"Oz"}' in found.model_dump_json()


async def test_what_was_parsed_does_not_go_back_onto_the_wire(driver: Any, reply: Any) -> None:
    d = driver(reply(MATHS.model_dump_json(), tool_calls=[call_of("Weather", ARGUMENTS)]))
    found = await parse(d, tools=[pydantic_function_tool(Weather)])
    await d.create(messages=[found.choices[0].message])
    sent = json.loads(d.requests[-1].content)["messages"][0]
    assert sent == {
        "role": "assistant",
        "content": MATHS.model_dump_json(),
        "tool_calls": [call_of("Weather", ARGUMENTS)],
    }
    assert "parsed" not in found.to_json()
