"""The tool loop, over answers that are scripted: what is asked, what is told, how it ends, what is kept."""

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from pydantic import BaseModel, field_validator

import flatfee
from flatfee import function_tool

HEADERS = {"x-flatfee-request-id": "req_1"}
HI = [{"role": "user", "content": "hi"}]


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


async def aweather(city: str) -> str:
    return f"sunny in {city}"


def broken(city: str) -> str:
    raise ValueError(f"no such city: {city}")


class Report(BaseModel):
    city: str
    degrees: int


def says(text: str = "done", **extra: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}, "finish_reason": "stop", **extra}


def calls(*wanted: tuple[str, str], ids: str = "c") -> dict[str, Any]:
    listed = [
        {"id": f"{ids}{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(wanted)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": listed}
    return {"message": message, "finish_reason": "tool_calls"}


class Script:
    """A gateway that answers with the choices it was given, one by one; a response among them is sent as it is."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.heads: list[httpx.Headers] = []
        self.released: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            self.released.append(request.url.path)
            return httpx.Response(204)
        self.asked.append(json.loads(request.content))
        self.heads.append(request.headers)
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.Response):
            return answer
        number = len(self.asked)
        receipt = {"request_id": f"req_{number}", "lane": "premium", "fair_use": {"charged": number}}
        return httpx.Response(200, headers=HEADERS, json={"choices": [answer], "flatfee": receipt})

    @property
    def told(self) -> list[Any]:
        """The messages that the last request had more than the first."""
        messages: list[Any] = self.asked[-1]["messages"]
        return messages[len(self.asked[0]["messages"]) :]


async def run(d: Any, client: Any = None, **options: Any) -> Any:
    given = {"messages": HI, "model": "auto", "tools": [weather], **options}
    return await d.wait((client or d.client).chat.completions.run_tools(**given))


LONDON = ("weather", '{"city":"London"}')


async def test_the_loop_runs_tools_until_there_are_no_more_calls(driver: Any) -> None:
    script = Script(calls(LONDON), says("It is sunny."))
    d = driver(script)
    done = await run(d)
    assert done.text == "It is sunny."
    assert [tool["function"]["name"] for tool in script.asked[0]["tools"]] == ["weather"]
    assistant = {**calls(LONDON)["message"]}
    assert script.told == [assistant, {"role": "tool", "tool_call_id": "c0", "content": "sunny in London"}]
    assert [len(step.results) for step in done.steps] == [1, 0]
    result = done.steps[0].results[0]
    assert (result.name, result.arguments, result.content, result.error) == (*LONDON, "sunny in London", None)


async def test_every_step_keeps_its_receipt_and_the_run_adds_them_up(driver: Any) -> None:
    done = await run(driver(Script(calls(LONDON), calls(LONDON), says())))
    assert [receipt.request_id for receipt in done.receipts] == ["req_1", "req_2", "req_3"]
    assert done.units == 6
    assert done.steps[0].receipt == done.receipts[0]
    assert done.completion.receipt == done.receipts[-1]


async def test_the_messages_of_a_run_are_the_conversation_to_go_on_with(driver: Any) -> None:
    script = Script(calls(LONDON), says("Sunny."), says("You are welcome."))
    d = driver(script)
    done = await run(d)
    await run(d, messages=[*done.messages, {"role": "user", "content": "thanks"}])
    sent = script.asked[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]
    json.dumps(done.messages)


async def test_all_steps_are_of_one_workflow_whose_slot_is_freed_at_the_end(driver: Any) -> None:
    script = Script(calls(LONDON), says())
    done = await run(driver(script))
    assert {head["x-flatfee-workflow"] for head in script.heads} == {done.workflow}
    assert script.released == [f"/v1/workflows/{done.workflow}"]


async def test_the_slot_is_freed_however_the_loop_ends(driver: Any, refuse: Any) -> None:
    script = Script(calls(LONDON), refuse("model_not_found"))
    with pytest.raises(flatfee.NotFoundError):
        await run(driver(script))
    assert len(script.released) == 1


async def test_a_loop_that_asked_nothing_frees_nothing(driver: Any) -> None:
    script = Script()
    with pytest.raises(flatfee.ConfigurationError):
        await run(driver(script), task="dance")
    assert script.released == []


@pytest.mark.parametrize("how", ["argument", "scope", "header"])
async def test_a_workflow_of_the_callers_is_used_and_left_alone(driver: Any, how: str) -> None:
    script = Script(calls(LONDON), says())
    d = driver(script)
    if how == "argument":
        done = await run(d, workflow="run-42")
    elif how == "scope":
        done = await run(d, d.client.workflow("run-42"))
    else:
        done = await run(d, extra_headers={"X-Flatfee-Workflow": "run-42"})
    assert done.workflow == "run-42"
    assert {head["x-flatfee-workflow"] for head in script.heads} == {"run-42"}
    assert script.released == []


async def test_a_release_that_fails_neither_loses_the_run_nor_holds_it_up(driver: Any, caplog: Any) -> None:
    script = Script(says("ok"))

    def gateway(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500) if request.method == "DELETE" else script(request)

    d = driver(gateway)
    done = await run(d)
    assert done.text == "ok"
    assert [request.method for request in d.requests] == ["POST", "DELETE"]
    assert caplog.messages == [f"workflow.release_failed workflow={done.workflow} error=InternalServerError"]


# Limits


async def test_more_steps_than_allowed_end_the_loop_with_all_that_was_done(driver: Any) -> None:
    script = Script(calls(LONDON), calls(LONDON, ids="d"))
    with pytest.raises(flatfee.ToolLoopExceeded, match=r"step 2.*max_steps") as caught:
        await run(driver(script), max_steps=2)
    left: Any = caught.value.run
    assert len(left.steps) == 2
    assert left.units == 3
    assert [message["role"] for message in left.messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert len(script.released) == 1


async def test_the_deadline_is_for_all_steps_together(driver: Any) -> None:
    def slow(city: str) -> str:
        d.now += 4.0
        return city

    script = Script(calls(("slow", '{"city":"x"}')), says())
    d = driver(script)
    await run(d, tools=[slow], deadline=10.0)
    assert [head["x-flatfee-deadline-ms"] for head in script.heads] == ["10000", "6000"]


async def test_a_deadline_that_passes_between_steps_ends_the_loop(driver: Any) -> None:
    def slow(city: str) -> str:
        d.now += 40.0
        return city

    script = Script(calls(("slow", '{"city":"x"}')))
    d = driver(script)
    with pytest.raises(flatfee.APITimeoutError, match="after 1 step") as caught:
        await run(d, tools=[slow], deadline=10.0)
    assert caught.value.run is not None
    assert caught.value.run.steps[0].results[0].content == "x"


# What goes wrong


async def test_a_failing_request_raises_as_it_is_and_keeps_the_run(driver: Any, refuse: Any) -> None:
    d = driver(Script(calls(LONDON), refuse("fallback_exhausted")))
    with pytest.raises(flatfee.FallbackExhausted) as caught:
        await run(d)
    error = pickle.loads(pickle.dumps(caught.value))
    kept: Any
    for kept in (caught.value.run, error.run, copy.deepcopy(caught.value).run):
        assert kept.units == 1
        assert kept.messages[-1]["content"] == "sunny in London"
    assert error.receipt.request_id == "req_9"


async def test_a_run_that_failed_before_its_first_answer_says_so(driver: Any, refuse: Any) -> None:
    with pytest.raises(flatfee.NotFoundError) as caught:
        await run(driver(Script(refuse("model_not_found"))))
    assert caught.value.run is not None
    assert caught.value.run.steps == ()
    with pytest.raises(LookupError, match="before its first answer"):
        _ = caught.value.run.completion


async def test_an_answer_without_a_choice_is_not_an_answer(driver: Any) -> None:
    d = driver(Script(httpx.Response(200, headers=HEADERS, json={"choices": []})))
    with pytest.raises(flatfee.APIResponseValidationError, match="no choice"):
        await run(d)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("nope", "{}"), "Error: there is no function 'nope'; there is weather, broken"),
        (
            ("weather", '{"city":'),
            "Error: the arguments do not fit: Invalid JSON: EOF while parsing a value at line 1 column 8",
        ),
        (("weather", "{}"), "Error: the arguments do not fit: city: Field required"),
        (
            ("weather", '{"city":"x","when":"now"}'),
            "Error: the arguments do not fit: when: Extra inputs are not permitted",
        ),
        (("broken", '{"city":"Oz"}'), "Error: ValueError: no such city: Oz"),
    ],
)
async def test_what_goes_wrong_with_a_call_is_told_to_the_model(driver: Any, call: Any, told: str) -> None:
    script = Script(calls(call), says("sorry"))
    done = await run(driver(script), tools=[weather, broken])
    assert script.told[-1] == {"role": "tool", "tool_call_id": "c0", "content": told}
    assert done.steps[0].results[0].error == told.removeprefix("Error: ")


async def test_a_custom_tool_call_is_answered_too(driver: Any) -> None:
    choice = calls()
    choice["message"]["tool_calls"] = [{"id": "c0", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]
    script = Script(choice, says())
    await run(driver(script))
    assert script.told[-1]["content"] == "Error: there is no function 'sh'; there is weather"


async def test_a_tools_exception_is_the_callers_on_demand(driver: Any) -> None:
    script = Script(calls(LONDON, ("broken", '{"city":"Oz"}')))
    d = driver(script)
    # Side by side in two threads, the one that is broken could end first, and the other would be cancelled.
    whole = weather if d.kind == "sync" else function_tool(aweather, name="weather")
    with pytest.raises(flatfee.ToolError, match="The tool broken raised ValueError") as caught:
        await run(d, tools=[whole, broken], on_tool_error="raise")
    assert isinstance(caught.value.__cause__, ValueError)
    assert "Oz" not in str(caught.value)
    kept = pickle.loads(pickle.dumps(caught.value))
    assert (kept.tool, kept.run.units, kept.run.messages) == ("broken", 1, tuple(HI))
    names = [result.name for result in kept.run.steps[0].results]
    assert names[-1] == "broken"
    assert names[:-1] == ["weather"] or (d.kind == "async" and not names[:-1])  # side by side, it may be cancelled
    assert len(script.released) == 1


async def test_a_result_that_is_no_json_is_a_mistake_of_the_caller(driver: Any) -> None:
    def odd(city: str) -> object:
        return object()

    with pytest.raises(flatfee.ToolError, match="odd returned a value of type object, which cannot be written"):
        await run(driver(Script(calls(("odd", '{"city":"x"}')))), tools=[odd])


async def test_half_a_character_in_a_result_is_no_text_either_and_keeps_the_run(driver: Any) -> None:
    """The names of files may hold one. Found out when the next step is sent, it would lose what was paid for."""

    def names(city: str) -> str:
        return "caf\udce9"

    with pytest.raises(flatfee.ToolError, match="names returned a value of type str, which cannot be") as caught:
        await run(driver(Script(calls(("names", '{"city":"x"}')))), tools=[names])
    assert caught.value.run.units == 1


async def test_half_a_character_in_an_exception_loses_nobody_the_run(driver: Any) -> None:
    def missing(city: str) -> str:
        raise FileNotFoundError("caf\udce9")

    script = Script(calls(("missing", '{"city":"x"}')), says())
    await run(driver(script), tools=[missing])
    assert script.told[-1]["content"] == "Error: FileNotFoundError: caf?"


class Picky(BaseModel):
    city: str

    @field_validator("city")
    @classmethod
    def _known(cls, city: str) -> str:
        raise KeyError(city)


async def test_a_validator_that_fails_by_itself_is_told_by_name(driver: Any) -> None:
    def look(place: Picky) -> None: ...

    script = Script(calls(("look", '{"place":{"city":"x"}}')), says())
    await run(driver(script), tools=[look])
    assert script.told[-1]["content"] == "Error: the arguments do not fit: a validator of look raised KeyError"


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (Report(city="Oz", degrees=3), '{"city":"Oz","degrees":3}'),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Point(x=1), '{"x":1}'),
        (None, "null"),
        (3, "3"),
    ],
)
async def test_results_are_told_as_text_or_json(driver: Any, value: object, text: str) -> None:
    def give() -> object:
        return value

    script = Script(calls(("give", "")), says())
    await run(driver(script), tools=[give])
    assert script.told[-1]["content"] == text


# What is sent


async def test_options_go_with_every_step(driver: Any) -> None:
    script = Script(calls(LONDON), says())
    await run(driver(script), temperature=0.5, task="edit", extra_body={"top_k": 1})
    assert [(asked["temperature"], asked["top_k"]) for asked in script.asked] == [(0.5, 1)] * 2
    assert [head["x-flatfee-task"] for head in script.heads] == ["edit"] * 2


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_a_tool_is_demanded_in_the_first_step_only(driver: Any, choice: Any) -> None:
    script = Script(calls(LONDON), says())
    await run(driver(script), tool_choice=choice)
    assert [asked["tool_choice"] for asked in script.asked] == [choice, "auto"]


async def test_an_idempotency_key_becomes_one_for_each_step(driver: Any) -> None:
    script = Script(calls(LONDON), says())
    await run(driver(script), idempotency_key="k")
    assert [head["idempotency-key"] for head in script.heads] == ["k-1", "k-2"]
    script = Script(calls(LONDON), says())
    await run(driver(script))
    assert len({head["idempotency-key"] for head in script.heads}) == 2


async def test_the_last_answer_is_read_into_the_format_asked_for(driver: Any) -> None:
    script = Script(calls(LONDON), says('{"city":"London","degrees":20}'))
    done = await run(driver(script), response_format=Report)
    assert done.parsed == Report(city="London", degrees=20)
    assert [asked["response_format"]["json_schema"]["name"] for asked in script.asked] == ["Report"] * 2


async def test_a_last_answer_that_does_not_fit_keeps_the_run(driver: Any) -> None:
    with pytest.raises(flatfee.StructuredOutputError) as caught:
        await run(driver(Script(calls(LONDON), says("sunny"))), response_format=Report)
    assert caught.value.run is not None
    assert caught.value.run.units == 1
    assert caught.value.receipt is not None
    assert caught.value.receipt.request_id == "req_2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"max_steps": True}, "max_steps is True"),
        ({"on_tool_error": "ignore"}, "on_tool_error is 'ignore'"),
        ({"n": 2}, "n is 2"),
        ({"stream": True}, "stream is true"),
        ({"deadline": -1}, "deadline is -1"),
        ({"tools": [weather, weather]}, "Two tools have the name 'weather'"),
        ({"tools": [flatfee.pydantic_function_tool(Report)]}, "has no function"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "has no function"),
        ({"tools": [print]}, "has no"),
    ],
)
async def test_what_cannot_work_is_refused_before_anything_is_sent(driver: Any, options: Any, message: str) -> None:
    d = driver(Script())
    with pytest.raises(flatfee.ConfigurationError, match=message):
        await run(d, **options)
    assert d.requests == []


async def test_a_conversation_without_tools_is_one_step(driver: Any) -> None:
    script = Script(says("hi"))
    done = await run(driver(script), tools=[], n=1)
    assert done.text == "hi"
    assert "tools" not in script.asked[0]


# The two kinds of clients


async def test_on_step_hears_of_each_step_when_it_is_whole(driver: Any) -> None:
    heard: list[Any] = []
    await run(driver(Script(calls(LONDON), says())), on_step=heard.append)
    assert [[result.content for result in step.results] for step in heard] == [["sunny in London"], []]


def of_kind(kind: str, script: Callable[[httpx.Request], httpx.Response]) -> Any:
    transport = httpx.MockTransport(script)
    if kind == "sync":
        return flatfee.Client(api_key="k", http_client=httpx.Client(transport=transport))
    return flatfee.AsyncClient(api_key="k", http_client=httpx.AsyncClient(transport=transport))


def ask(client: Any, *tools: Any, **options: Any) -> Any:
    return client.chat.completions.run_tools(messages=HI, model="auto", tools=tools, **options)


def test_the_blocking_client_refuses_coroutine_functions() -> None:
    class Tool:
        async def __call__(self, city: str) -> str:
            return city

    for tool in (aweather, function_tool(aweather), function_tool(Tool(), name="tool")):
        with pytest.raises(flatfee.ConfigurationError, match="is a coroutine function; use AsyncClient"):
            ask(of_kind("sync", Script()), tool)


def test_the_blocking_client_runs_calls_in_their_order_and_stops_at_a_failure_to_raise() -> None:
    ran: list[str] = []

    def note(city: str) -> None:
        ran.append(city)
        if city == "b":
            raise ValueError

    script = Script(calls(*[("note", json.dumps({"city": city})) for city in "abc"]))
    with pytest.raises(flatfee.ToolError):
        ask(of_kind("sync", script), note, on_tool_error="raise")
    assert ran == ["a", "b"]


async def test_calls_run_side_by_side_and_are_told_in_their_order(anyio_backend: str) -> None:
    """Each of them waits for the others: one after the other they would never end."""
    here = threading.Barrier(2, timeout=30)

    others = {"a": anyio.Event(), "c": anyio.Event()}

    async def meet(name: str) -> str:
        others[name].set()
        await others["c" if name == "a" else "a"].wait()
        return name

    def block(name: str) -> str:
        here.wait()
        return name

    wanted = [("meet", "a"), ("block", "b"), ("meet", "c"), ("block", "d")]
    script = Script(calls(*[(tool, json.dumps({"name": name})) for tool, name in wanted]), says())
    await ask(of_kind("async", script), meet, block)
    assert [message["content"] for message in script.told[1:]] == ["a", "b", "c", "d"]


async def test_a_step_may_be_heard_of_by_a_coroutine_function(anyio_backend: str) -> None:
    heard: list[Any] = []

    async def note(step: Any) -> None:
        heard.append(step)

    await ask(of_kind("async", Script(says())), weather, on_step=note)
    assert len(heard) == 1


async def test_what_a_plain_function_returns_is_awaited_where_it_can_be(anyio_backend: str) -> None:
    script = Script(calls(("later", '{"city":"x"}')), says())

    def later(city: str) -> Any:
        return aweather(city)

    await ask(of_kind("async", script), later)
    assert script.told[-1]["content"] == "sunny in x"


async def test_a_failure_to_raise_cancels_the_calls_beside_it(anyio_backend: str) -> None:
    ended: list[str] = []

    async def wait(city: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(city)

    script = Script(calls(("wait", '{"city":"a"}'), ("broken", '{"city":"b"}')))
    with pytest.raises(flatfee.ToolError, match="broken"):
        await ask(of_kind("async", script), wait, broken, on_tool_error="raise")
    assert ended == ["a"]


@pytest.mark.slow
async def test_the_deadline_ends_a_tool_that_overruns(anyio_backend: str) -> None:
    async def wait(city: str) -> None:
        await anyio.sleep_forever()

    async def quick(city: str) -> str:
        return "done in time"

    script = Script(calls(("wait", '{"city":"a"}'), ("quick", '{"city":"b"}')))
    with pytest.raises(flatfee.APITimeoutError, match="deadline of the tool loop") as caught:
        await ask(of_kind("async", script), wait, quick, deadline=2.0)
    assert caught.value.run is not None
    assert caught.value.run.units == 1
    assert [result.content for result in caught.value.run.steps[0].results] == ["done in time"]


async def test_a_cancelled_run_cancels_its_tools_and_frees_its_slot(anyio_backend: str) -> None:
    begun = anyio.Event()
    ended: list[str] = []

    async def wait(city: str) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(city)

    script = Script(calls(("wait", '{"city":"a"}')))

    async def gateway(request: httpx.Request) -> httpx.Response:
        await anyio.lowlevel.checkpoint()  # as a network would: here a cancelled task would go no further
        return script(request)

    client = flatfee.AsyncClient(api_key="k", http_client=httpx.AsyncClient(transport=httpx.MockTransport(gateway)))
    async with anyio.create_task_group() as group:
        group.start_soon(ask, client, wait)
        await begun.wait()
        group.cancel_scope.cancel()
    assert ended == ["a"]
    assert len(script.released) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_cancelled_frees_the_slot_as_well(anyio_backend: str) -> None:
    begun = asyncio.Event()

    async def wait(city: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    script = Script(calls(("wait", '{"city":"a"}')))
    task = asyncio.create_task(ask(of_kind("async", script), wait))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(script.released) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_tool_whose_work_was_cancelled_is_told_of_like_any_other(anyio_backend: str) -> None:
    """Cancelled is what it waited for, by someone else. Were nothing told, the model would be asked the same again."""

    async def gone(city: str) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    script = Script(calls(("gone", '{"city":"a"}'), ("aweather", '{"city":"b"}')), says())
    await ask(of_kind("async", script), gone, aweather)
    told = [message["content"] for message in script.told[1:]]
    assert told == ["Error: RuntimeError: it was cancelled", "sunny in b"]


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_tool_that_ends_the_program_ends_it(anyio_backend: str, end: Any, in_thread: bool) -> None:
    def leave(city: str) -> None:
        raise end

    async def aleave(city: str) -> None:
        raise end

    name = "leave" if in_thread else "aleave"
    script = Script(calls((name, '{"city":"a"}')))
    with pytest.raises(end):  # as it is, and in no group
        await ask(of_kind("async", script), leave, aleave)
    assert len(script.released) == 1
