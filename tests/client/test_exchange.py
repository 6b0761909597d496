"""From a call to a request, and from a reply to an answer."""

import json
import pickle
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from flatfee import (
    NOT_GIVEN,
    APIResponseValidationError,
    APIStatusError,
    AuthenticationError,
    ChatCompletionMessage,
    ConfigurationError,
    NotFoundError,
    Receipt,
    ReceiptState,
    Task,
    Timeout,
)
from flatfee.client.config import ClientConfig
from flatfee.client.exchange import Call, Reply, encode, read_nothing, request_for, segment


def nested(depth: int) -> Any:
    """Return a list in a list, and so on."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


class NotGiven:
    """Stands for openai-python's own sentinel, which has this name."""


class Omit(NotGiven):
    """And its successor."""


async def test_a_completion_is_posted_as_json_with_the_key(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    await d.create(temperature=0.5, seed=None)
    sent = d.requests[0]
    assert (sent.method, str(sent.url)) == ("POST", "http://gateway.test/v1/chat/completions")
    assert sent.headers["authorization"] == "Bearer ff_proj_secret"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["user-agent"].startswith("flatfee-python/")
    assert json.loads(sent.content) == {
        "model": "auto",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "seed": None,
    }


async def test_flatfees_own_arguments_travel_in_headers(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    await d.create(workflow="run-42", task=Task.PLAN, on_exhausted="fail", deadline=1.0005, idempotency_key="k1")
    headers = d.requests[0].headers
    assert headers["x-flatfee-workflow"] == "run-42"
    assert headers["x-flatfee-task"] == "plan"
    assert headers["x-flatfee-on-exhausted"] == "fail"
    assert headers["x-flatfee-deadline-ms"] == "1001"
    assert headers["idempotency-key"] == "k1"
    assert set(json.loads(d.requests[0].content)) == {"model", "messages"}


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"workflow": "two words"}, "workflow is 'two words'; use 1 to 128 of"),
        ({"workflow": ""}, "use 1 to 128 of"),
        ({"workflow": "x" * 129}, "use 1 to 128 of"),
        ({"workflow": 7}, "use 1 to 128 of"),
        ({"task": "think"}, "task is 'think'; use one of plan, edit, review, final, chat, summarize"),
        ({"on_exhausted": "wait"}, "use one of continue, fail"),
        ({"workflow": "."}, "not . or .."),
        ({"task": ["plan"]}, "use one of plan"),
        ({"extra_headers": {"x a": "b"}}, "'x a' is not the name of a header"),
        ({"metadata": nested(100_000)}, "nested too deeply"),
        ({"deadline": 0}, "deadline is 0; use seconds above 0"),
        ({"deadline": float("inf")}, "use seconds above 0"),
        ({"deadline": "5"}, "use seconds above 0"),
        ({"deadline": True}, "use seconds above 0"),
        ({"idempotency_key": ""}, "has 0 characters"),
        ({"idempotency_key": "x" * 256}, "has 256 characters"),
        ({"idempotency_key": "a\nb"}, "Idempotency-Key must be printable"),
        ({"timeout": "soon"}, "timeout is 'soon'"),
        ({"extra_headers": {"x-a": "a\r\nb"}}, "header x-a must be printable"),
        ({"temperature": float("nan")}, "cannot be written as JSON"),
        ({"user": object()}, "a value of type object has no place"),
        ({"user": b"x"}, "a value of type bytes has no place"),
        ({"user": "\ud800"}, "half of a surrogate pair"),
    ],
)
async def test_what_the_gateway_would_refuse_is_refused_before_sending(
    driver: Any, answer: Any, argument: Any, says: Any
) -> None:
    d = driver(lambda _: answer())
    with pytest.raises(ConfigurationError, match=says) as caught:
        await d.create(**argument)
    assert isinstance(caught.value, ValueError)
    assert d.requests == []


async def test_none_is_no_value_for_flatfees_own_arguments(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    await d.create(workflow=None, task=None, on_exhausted=None, deadline=None, idempotency_key=None)
    assert not [name for name in d.requests[0].headers if name.startswith("x-flatfee")]
    assert len(d.requests[0].headers["idempotency-key"]) == 36


@pytest.mark.parametrize("absent", [NOT_GIVEN, NotGiven(), Omit()])
async def test_what_is_not_given_is_not_sent(driver: Any, answer: Any, absent: Any) -> None:
    d = driver(lambda _: answer())
    await d.create(
        temperature=absent,
        task=absent,
        timeout=absent,
        extra_headers={"User-Agent": absent},
        extra_query={"a": absent},
    )
    assert set(json.loads(d.requests[0].content)) == {"model", "messages"}
    assert "python-httpx" in d.requests[0].headers["user-agent"]
    assert d.requests[0].url.query == b""


async def test_the_callers_extras_come_last(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer(), default_headers={"X-Team": "a", "X-Kept": "k"}, default_query={"v": 1, "w": None})
    await d.create(
        temperature=1,
        new_parameter={"a": [1]},
        extra_headers={"x-team": "b"},
        extra_query={"v": 2, "flag": True, "many": ["x", "y"]},
        extra_body={"temperature": 0, "other": 1},
        timeout=3,
    )
    sent = d.requests[0]
    assert (sent.headers["x-team"], sent.headers["x-kept"]) == ("b", "k")
    assert sent.url.query == b"v=2&flag=true&many=x&many=y"
    assert json.loads(sent.content)["new_parameter"] == {"a": [1]}
    assert json.loads(sent.content)["temperature"] == 0
    assert sent.extensions["timeout"] == {"connect": 3, "read": 3, "write": 3, "pool": 3}


async def test_the_default_timeout_is_short_to_connect_and_long_to_read(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer())
    await d.create()
    assert d.requests[0].extensions["timeout"] == {"connect": 5.0, "read": 600.0, "write": 600.0, "pool": 600.0}


def test_models_go_back_as_they_came() -> None:
    came = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}],
    }
    message = ChatCompletionMessage.model_validate(came)
    assert json.loads(encode({"messages": (m for m in [message])})) == {"messages": [came]}
    assert json.loads(encode({"tool_calls": message.tool_calls})) == {"tool_calls": came["tool_calls"]}


def test_text_is_sent_as_utf8_and_any_mapping_as_an_object() -> None:
    @dataclass
    class Odd:
        model_dump: object = None

    class View(dict[str, int]):
        pass

    assert encode({"a": "é", "b": View(x=1), "c": httpx.QueryParams({"k": "v"})}) == (
        '{"a":"é","b":{"x":1},"c":{"k":"v"}}'.encode()
    )


async def test_the_answer_is_typed_and_carries_its_receipt(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer("hello"))
    completion = await d.create()
    assert completion.choices[0].message.content == "hello"
    assert completion.usage.total_tokens == 4
    assert completion._request_id == "req_1"
    assert completion.receipt.state == "settled"
    assert completion.receipt.fair_use.charged == 7
    assert completion.receipt.reason == "default", "what only the headers told is kept"
    assert completion.receipt is completion.receipt


async def test_an_error_is_the_exception_of_its_code(driver: Any, refuse: Any) -> None:
    d = driver(refuse("invalid_api_key"))
    with pytest.raises(AuthenticationError) as caught:
        await d.create()
    assert caught.value.code == "invalid_api_key"
    assert Receipt.of(caught.value) == Receipt(request_id="req_9", state=ReceiptState.REFUSED)
    assert caught.value.response.status_code == 401
    assert pickle.loads(pickle.dumps(caught.value)).receipt == caught.value.receipt


@pytest.mark.parametrize("body", [{"error": {"message": "x", "code": "rate_limited"}}, {"choices": [], "error": "x"}])
async def test_an_error_under_status_200_is_an_error(driver: Any, body: Any) -> None:
    d = driver(httpx.Response(200, json=body), max_retries=0)
    with pytest.raises(APIStatusError) as caught:
        await d.create()
    assert caught.value.message == "x"
    assert caught.value.response.status_code == 200


async def test_an_error_of_null_is_none(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer(error=None))
    assert (await d.create()).id == "chatcmpl-1"


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<html>secret login</html>", headers={"content-type": "text/html"}),
        httpx.Response(200, json={"choices": "secret"}),
        httpx.Response(200, json=["secret"]),
        httpx.Response(200),
    ],
)
async def test_an_answer_that_is_none_is_an_error_that_does_not_quote_it(driver: Any, reply: Any) -> None:
    d = driver(reply)
    with pytest.raises(APIResponseValidationError, match="not a valid ChatCompletion") as caught:
        await d.create()
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.__cause__)
    assert len(d.requests) == 1


async def test_a_redirect_names_the_cure_and_is_not_followed(driver: Any) -> None:
    d = driver(httpx.Response(308, headers={"location": "https://elsewhere.test/v1"}))
    with pytest.raises(
        APIResponseValidationError, match=r"redirect \(308\) to https://elsewhere\.test/v1; set base_url"
    ):
        await d.create()
    assert len(d.requests) == 1


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://u:SECRET@host.test:8443/v1?key=SECRET#SECRET", "https://host.test:8443/v1;"),
        ("/v2?key=SECRET", "/v2;"),
        ("http://[SECRET", "an untold place;"),
        (None, "an untold place;"),
    ],
)
async def test_a_redirect_is_told_without_its_secrets(driver: Any, location: Any, shown: Any) -> None:
    d = driver(httpx.Response(307, headers={"location": location} if location else {}))
    with pytest.raises(APIResponseValidationError) as caught:
        await d.create()
    assert f"(307) to {shown}" in str(caught.value)
    assert "SECRET" not in str(caught.value)


async def test_a_web_page_is_no_answer_to_a_release(driver: Any) -> None:
    for body in (b"<html>Please log in</html>", b"[" * 200_000):
        d = driver(httpx.Response(200, content=body, headers={"content-type": "text/html"}))
        with pytest.raises(APIResponseValidationError, match="neither empty nor JSON") as caught:
            await d.wait(d.client.workflows.release("run-42"))
        assert caught.value.response.status_code == 200
    d = driver(httpx.Response(200, json={"error": {"message": "x", "code": "not_found"}}))
    with pytest.raises(NotFoundError):
        await d.wait(d.client.workflows.release("run-42"))
    for reply in (httpx.Response(204), httpx.Response(200), httpx.Response(200, json={"deleted": True})):
        d = driver(reply)
        await d.wait(d.client.workflows.release("run-42"))


async def test_nulls_and_fractions_cost_nobody_an_answer(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer(id=None, model=None, created=1.5, usage={"prompt_tokens": None}))
    completion = await d.create()
    assert (completion.id, completion.model, completion.created) == ("", "", 1)
    assert completion.usage.prompt_tokens == 0


async def test_the_place_of_a_mistake_is_told(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer(created="secret"))
    with pytest.raises(APIResponseValidationError, match=r"int_parsing at created \(content type"):
        await d.create()


def test_a_reply_does_not_show_its_body() -> None:
    assert "secret" not in repr(Reply(200, {}, b"secret", "secret"))


async def test_route_plans_the_same_request_without_a_key_to_charge(driver: Any) -> None:
    plan = {
        "object": "route",
        "lane": "premium",
        "reason": "default",
        "estimate": {"units": 9},
        "then": [{"route": "b"}],
    }
    d = driver(lambda _: httpx.Response(200, json=plan))
    messages = [{"role": "user", "content": "hi"}]
    found = await d.wait(d.client.route(model="auto", messages=messages, task="edit", max_tokens=5))
    assert (found.lane, found.estimate.units, found.then[0].route) == ("premium", 9, "b")
    assert d.requests[0].url.path == "/v1/route"
    assert d.requests[0].headers["x-flatfee-task"] == "edit"
    assert "idempotency-key" not in d.requests[0].headers
    assert json.loads(d.requests[0].content)["max_tokens"] == 5


def test_neither_call_nor_request_shows_key_or_prompt() -> None:
    config = ClientConfig.read({}, api_key="ff_proj_secret")
    call = Call(
        method="POST", path="/x", read=read_nothing, body=b"prompt", headers={"x-a": "hidden"}, timeout=Timeout()
    )
    shown = repr(call) + repr(request_for(call, config, config.authorization()))
    assert not [word for word in ("ff_proj_secret", "prompt", "hidden") if word in shown]


@pytest.mark.parametrize("value", ["", ".", "..", None])
def test_an_id_that_would_climb_to_another_path_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="model is"):
        segment("model", value)


async def test_an_id_is_one_segment_of_the_path(driver: Any, refuse: Any) -> None:
    d = driver(refuse("model_not_found"))
    with pytest.raises(NotFoundError):
        await d.wait(d.client.models.retrieve("org/model?x"))
    assert d.requests[0].url.raw_path == b"/v1/models/org%2Fmodel%3Fx"
