"""What code that was written for openai-python calls, gives and reads, seen in the openai package itself."""

import inspect
import json
import logging
from typing import Any

import httpx
import openai
import pytest
from openai.resources.beta import Beta
from openai.resources.chat import Chat
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.models import AsyncModels, Models

import flatfee
from flatfee import ConfigurationError
from flatfee.client.exchange import encode
from flatfee.types.params import ParseParams

BOTH = [(flatfee.Client, openai.OpenAI), (flatfee.AsyncClient, openai.AsyncOpenAI)]
SENTINELS = [flatfee.omit, flatfee.NOT_GIVEN, openai.omit, openai.NOT_GIVEN, openai.not_given]
HELLO = [{"role": "user", "content": "hi"}]

UNTOLD = {"auth_headers", "custom_auth", "parse", "platform_headers", "qs", "stream", "user_agent"}
"""What nobody but openai-python itself asks for, or what comes."""

by_kind = pytest.mark.parametrize(("kind", "theirs"), BOTH)
every_sentinel = pytest.mark.parametrize(
    "nothing", SENTINELS, ids=lambda value: f"{type(value).__module__}-{type(value).__name__}"
)


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def refused(call: Any, names: list[str], value: Any) -> list[str]:
    """Return the names of arguments that a call has no place for."""
    found = []
    for name in names:
        try:
            call(**{name: value})
        except TypeError:
            found.append(name)
    return found


def offline(kind: Any, **options: Any) -> Any:
    """Return a client whose connections cost nothing to make."""
    http = httpx.Client if kind is flatfee.Client else httpx.AsyncClient
    made = http(transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    return kind(**{"api_key": "k", "base_url": "http://gateway.test/v1", "http_client": made, **options})


@by_kind
def test_every_argument_of_openais_constructor_is_taken(kind: Any, theirs: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("FLATFEE_API_KEY", "k")
    names = parameters(theirs.__init__)
    assert len(names) > 10

    def construct(**argument: Any) -> None:
        offline(kind, **argument)

    assert refused(construct, [name for name in names if name != "max_retries"], None) == []
    assert refused(construct, ["max_retries"], 1) == []
    assert refused(construct, ["no_such_argument"], None) == ["no_such_argument"]


@by_kind
def test_every_argument_of_openais_copy_is_taken(kind: Any, theirs: Any) -> None:
    client = offline(kind)
    for method in (client.copy, client.with_options, client.workflow("run-42").copy):
        names = [name for name in parameters(theirs.copy) if name != "max_retries"]
        assert refused(method, names, None) == []
        assert method(max_retries=5)._core.config.max_retries == 5


def test_an_ignored_argument_is_told_to_the_log_once_and_its_value_never(caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG, "flatfee.client"):
        flatfee.Client(api_key="k", organization="org-secret", project=None, provider=openai.omit)
        flatfee.Client(api_key="k").with_options(project="proj-secret")
    assert caplog.messages == [
        "client.argument_ignored name=organization",
        "client.argument_ignored name=project",
    ]
    with pytest.raises(TypeError, match="no argument 'organisation'"):
        flatfee.Client(api_key="k", organisation="x")  # type: ignore[call-arg]  # the mistake


@pytest.mark.parametrize(("ours", "theirs"), [("Client", Completions), ("AsyncClient", AsyncCompletions)])
@pytest.mark.parametrize("method", ["create", "parse", "stream"])
def test_every_parameter_of_a_completion_is_known(ours: str, theirs: Any, method: str) -> None:
    """A parameter is known if the signature names it, or the typed dictionary of its keyword arguments."""
    mine = getattr(getattr(flatfee, ours)(api_key="k").chat.completions, method)
    options = flatfee.types.CompletionParams if method == "create" else ParseParams
    known = {*parameters(mine), *options.__annotations__}
    asked = set(parameters(getattr(theirs, method)))
    assert len(asked) > 35
    assert asked - known == set()


@pytest.mark.parametrize(("ours", "theirs"), [("Client", Models), ("AsyncClient", AsyncModels)])
@pytest.mark.parametrize("method", ["list", "retrieve"])
def test_every_parameter_of_models_is_known(ours: str, theirs: Any, method: str) -> None:
    mine = getattr(getattr(flatfee, ours)(api_key="k").models, method)
    known = {*parameters(mine), *flatfee.types.CallOptions.__annotations__}
    missing = set(parameters(getattr(theirs, method))) - known
    assert missing == {"extra_body"}, "a request without a body has no place for it"


@by_kind
def test_a_name_that_a_gateway_does_not_serve_says_what_is_there_instead(kind: Any, theirs: Any) -> None:
    client = offline(kind)
    for owner, like in (
        (client, theirs),
        (client.chat, Chat),
        (client.beta, Beta),
        (client.chat.completions, Completions),
    ):
        for name in {name for name in dir(like) if not name.startswith("_") and not hasattr(owner, name)} - UNTOLD:
            with pytest.raises(AttributeError, match="unlike openai-python's: "):
                getattr(owner, name)
    with pytest.raises(AttributeError, match=r"has no 'responses', unlike openai-python's: use chat\.completions"):
        _ = client.responses
    with pytest.raises(AttributeError, match=r"'\w*Client' object has no attribute 'chatt'"):
        _ = client.chatt


def test_the_names_of_openais_clients_are_ours_too() -> None:
    assert (flatfee.OpenAI, flatfee.AsyncOpenAI) == (flatfee.Client, flatfee.AsyncClient)
    assert flatfee.OpenAIError is flatfee.FlatfeeError
    assert flatfee.omit is flatfee.NOT_GIVEN
    assert isinstance(flatfee.omit, flatfee.Omit)


@by_kind
def test_settings_can_be_read_as_openais(kind: Any, theirs: Any) -> None:
    arguments = {"api_key": "k", "base_url": "http://gateway.test:8787/v1", "max_retries": 4, "timeout": 3.0}
    client, peer = kind(**arguments), theirs(**arguments)
    for name in ("api_key", "max_retries"):
        assert getattr(client, name) == getattr(peer, name)
    assert str(client.base_url) == str(peer.base_url) == f"{client.base_url}"
    for part in ("scheme", "host", "port", "path"):
        assert getattr(client.base_url, part) == getattr(peer.base_url, part)
    assert client.timeout == flatfee.Timeout.of(3.0)
    with pytest.raises(AttributeError):
        client.api_key = "other"
    assert kind(api_key=lambda: "later").api_key == ""
    assert "authorization" not in client.default_headers


@every_sentinel
async def test_a_sentinel_stands_for_nothing_wherever_it_stands(driver: Any, answer: Any, nothing: Any) -> None:
    d = driver(lambda _: answer(), default_headers={"x-a": "1"}, default_query={"a": 1})
    names = set(parameters(Completions.create)) - {"messages", "model"}
    names |= {"workflow", "task", "on_exhausted", "deadline", "idempotency_key"}
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi", "x": nothing}, nothing], "name": nothing}]
    await d.create(messages=messages, **dict.fromkeys(names, nothing))
    await d.create(
        messages=iter(messages),
        extra_headers={"x-a": nothing},
        extra_query={"a": nothing},
        extra_body={"top_k": nothing, "deep": {"a": nothing, "b": 1}},
    )
    sent = [json.loads(request.content) for request in d.requests]
    clean = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    assert sent == [{"model": "auto", "messages": [clean]}, {"model": "auto", "messages": [clean], "deep": {"b": 1}}]
    assert [request.headers.get("x-a") for request in d.requests] == ["1", None]
    assert [request.url.query for request in d.requests] == [b"a=1", b""]


@every_sentinel
@by_kind
def test_a_sentinel_leaves_a_client_its_defaults(kind: Any, theirs: Any, nothing: Any) -> None:
    headers = {"accept": nothing}
    client = offline(kind, base_url=nothing, timeout=nothing, max_retries=nothing, default_headers=headers)
    assert (client.max_retries, client.timeout) == (2, flatfee.Timeout())
    assert "accept" not in client.default_headers
    same = client.with_options(
        api_key=nothing, base_url=nothing, timeout=nothing, max_retries=nothing, http_client=nothing,
        default_headers=nothing, default_query=nothing, set_default_headers=nothing, set_default_query=nothing,
    )  # fmt: skip
    assert same._core.config == client._core.config


def test_half_a_character_is_refused_beside_a_sentinel() -> None:
    messages = [{"role": "user", "content": "\ud800", "name": openai.omit}]
    with pytest.raises(ConfigurationError, match="half of a surrogate pair"):
        encode({"messages": messages})


def test_a_sentinel_in_a_nest_without_end_is_refused() -> None:
    nest: Any = [openai.omit]
    for _ in range(600):
        nest = [nest]
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        encode({"messages": nest})


async def test_a_copy_replaces_or_adds_headers_and_query(driver: Any, answer: Any) -> None:
    d = driver(lambda _: answer(), default_headers={"x-a": "1"}, default_query={"a": 1})
    await d.create(d.client.copy(default_headers={"x-b": "2"}, default_query={"b": 2}))
    await d.create(d.client.copy(set_default_headers={"x-b": "2"}, set_default_query={"b": 2}))
    await d.create(d.client.copy(set_default_headers={}, set_default_query={}))
    sent = [(request.headers.get("x-a"), request.headers.get("x-b"), request.url.query) for request in d.requests]
    assert sent == [("1", "2", b"a=1&b=2"), (None, "2", b"b=2"), (None, None, b"")]
    assert all(request.headers["user-agent"].startswith("flatfee-python/") for request in d.requests)


async def test_a_copy_may_have_another_http_client(driver: Any, answer: Any) -> None:
    one, two = driver(lambda _: answer()), driver(lambda _: answer())
    other = one.client.copy(http_client=two.client._core.transport._given)
    await one.create(other)
    assert (len(one.requests), len(two.requests)) == (0, 1)
    await one.wait(other.close())
    assert other.is_closed()
    assert not one.client.is_closed()
    assert isinstance(one.client, flatfee.Client | flatfee.AsyncClient)


def test_an_url_of_the_http_library_is_a_base_url() -> None:
    given = "http://gateway.test/v1"
    for url in (httpx.URL(given), openai.OpenAI(api_key="k", base_url=given).base_url):
        assert offline(flatfee.Client, base_url=url).base_url == f"{given}/"
