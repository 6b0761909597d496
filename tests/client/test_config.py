"""Settings are checked once, and errors name the value and the cure."""

import copy
import os
import pickle
import traceback
from typing import Any

import httpx
import pytest

from flatfee import NOT_GIVEN, AsyncClient, Client, ConfigurationError, Timeout
from flatfee.client.config import ClientConfig
from flatfee.wire import DEFAULT_BASE_URL

ENV = {"FLATFEE_API_KEY": "from-env", "FLATFEE_BASE_URL": "http://127.0.0.1:8787/v1/"}


def test_arguments_come_before_the_environment_and_that_before_the_defaults() -> None:
    assert ClientConfig.read({}, api_key="k").base_url == DEFAULT_BASE_URL
    from_env = ClientConfig.read(ENV)
    assert (from_env.authorization(), from_env.base_url) == ("Bearer from-env", "http://127.0.0.1:8787/v1")
    given = ClientConfig.read(ENV, api_key="mine", base_url="https://other.test")
    assert (given.authorization(), given.base_url) == ("Bearer mine", "https://other.test")


def test_an_empty_argument_is_a_mistake_and_an_empty_variable_is_none() -> None:
    with pytest.raises(ConfigurationError):
        ClientConfig.read(ENV, api_key="")
    with pytest.raises(ConfigurationError):
        ClientConfig.read(ENV, base_url="")
    assert ClientConfig.read({"FLATFEE_API_KEY": "k", "FLATFEE_BASE_URL": ""}).base_url == DEFAULT_BASE_URL


def test_openais_variables_are_not_read() -> None:
    openai = {"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "http://openai.test"}
    with pytest.raises(ConfigurationError, match=r"Set FLATFEE_API_KEY, or pass api_key="):
        ClientConfig.read(openai)
    assert ClientConfig.read(openai, api_key="k").base_url == DEFAULT_BASE_URL


@pytest.mark.parametrize("key", ["", "  ", "kéy", "k\r\nx-evil: 1", "two words", "tab\tbed"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_showing_it(key: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig.read({}, api_key=key)
    assert not key.strip() or key not in str(caught.value)


def test_a_callable_is_asked_on_every_use_and_checked() -> None:
    keys = iter(["one", "two", "thr\nee"])
    config = ClientConfig.read({}, api_key=lambda: next(keys))
    assert [config.authorization(), config.authorization()] == ["Bearer one", "Bearer two"]
    with pytest.raises(ConfigurationError):
        config.authorization()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/v1", "not an http or https URL"),
        ("gateway.test/v1", "not an http or https URL"),
        ("http://", "not an http or https URL"),
        ("http://host:port/v1", "is not a URL"),
        ("http://[::1/v1", "is not a URL"),
        ("https://user:pw@host/v1", "pass the key as api_key="),
        ("https://host/v1?a=b", "default_query="),
        ("https://host/v1#x", "default_query="),
        ("https://host/v 1", "a character that a URL cannot"),
        ("https://hóst/v1", "a character that a URL cannot"),
    ],
)
def test_a_bad_base_url_is_refused_with_the_cure(url: Any, says: Any) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ClientConfig.read({}, api_key="k", base_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://u:SECRET@host:bad/v1",
        "http://u:SECRET@host/v1",
        "u:SECRET@host/v1",
        "http://host/v1?key=SECRET",
        "http://host/SECRET v1",
        "http://host:SECRET/v1",
        "http://host/v1#SECRET",
        "http://[SECRET/v1",
        "ff_proj_SECRET",
    ],
)
def test_a_bad_base_url_is_not_shown_where_it_may_hold_a_secret(url: Any) -> None:
    for arguments in ({"base_url": url}, {"env": {"FLATFEE_BASE_URL": url}}):
        with pytest.raises(ConfigurationError) as caught:
            ClientConfig.read(**{"env": {}, "api_key": "k", **arguments})
        assert "SECRET" not in str(caught.value)
        assert "SECRET" not in repr(caught.value.__cause__)


def test_scheme_and_host_of_a_bad_base_url_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"base_url 'ftp://gateway\.test' is not"):
        ClientConfig.read({}, api_key="k", base_url="ftp://gateway.test/v1")


def test_a_base_url_may_be_an_url_object_and_nothing_else_but_text() -> None:
    url: Any = httpx.URL("http://gateway.test/v1/")
    assert ClientConfig.read({}, api_key="k", base_url=url).base_url == "http://gateway.test/v1"
    for wrong in (5, b"http://gateway.test", ["x"]):
        with pytest.raises(ConfigurationError, match=f"base_url is of type {type(wrong).__name__}"):
            ClientConfig.read({}, api_key="k", base_url=wrong)


@pytest.mark.parametrize("name", ["x a", "", "x:y", "x\n", "é", 5, None])
def test_a_header_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not the name of a header"):
        ClientConfig.read({}, api_key="k", default_headers={name: "v"})


@pytest.mark.parametrize("retries", [-1, 1.5, True, "2"])
def test_retries_are_a_whole_number(retries: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_retries is"):
        ClientConfig.read({}, api_key="k", max_retries=retries)


def test_timeouts_are_seconds_none_or_four_limits() -> None:
    assert ClientConfig.read({}, api_key="k", timeout=NOT_GIVEN).timeout == Timeout(600.0, connect=5.0, idle=120.0)
    assert Timeout.of(3) == Timeout(connect=3, read=3, write=3, pool=3, first_token=3, idle=3)
    assert Timeout.of(None) == Timeout(None)
    assert Timeout.of(httpx.Timeout(9.0, connect=1.0)) == Timeout(9.0, connect=1.0)
    assert Timeout.of(Timeout(read=1)) == Timeout(read=1)


def test_a_timeout_is_made_as_httpx_makes_one() -> None:
    for arguments, limits in (
        ((60.0,), {"connect": 5.0}),
        ((9.0,), {"read": 2.0}),
        ((None,), {"pool": 1.0}),
        ((5,), {}),
    ):
        theirs: Any = httpx.Timeout(*arguments, **limits)
        ours: Any = Timeout(*arguments, **limits)
        assert {name: getattr(ours, name) for name in theirs.as_dict()} == theirs.as_dict()
        assert ours.first_token == ours.idle == theirs.read
    assert Timeout(connect=2.0) == Timeout(600.0, connect=2.0, idle=120.0)
    assert copy.copy(Timeout(3, idle=1)) == pickle.loads(pickle.dumps(Timeout(3, idle=1))) == Timeout(3, idle=1)


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan"), float("inf"), 1e12])
def test_an_impossible_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        Timeout.of(timeout)


def test_default_headers_are_checked_without_showing_them() -> None:
    headers: Any
    for headers in ({"x-a": "sec\nret"}, {"x-a": "sécret"}, {"x-a": 7}):
        with pytest.raises(ConfigurationError, match="x-a") as caught:
            ClientConfig.read({}, api_key="k", default_headers=headers)
        assert "ret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"The header X-A is of type NoneType; .* flatfee\.omit"):
        ClientConfig.read({}, api_key="k", default_headers={"X-A": None})  # type: ignore[dict-item]  # callers pass it
    with pytest.raises(ConfigurationError, match="pass the key as api_key="):
        ClientConfig.read({}, api_key="k", default_headers={"Authorization": "Bearer x"})


@pytest.mark.parametrize("key", [5, b"bytes", 1.5])
def test_a_key_of_a_wrong_type_is_told_by_its_type(key: Any) -> None:
    for wrong in (key, lambda: key):
        with pytest.raises(ConfigurationError, match=f"is of type {type(key).__name__}"):
            ClientConfig.read({}, api_key=wrong).authorization()
    with pytest.raises(ConfigurationError, match="There is no API key"):
        ClientConfig.read({}, api_key=lambda: None).authorization()  # type: ignore[arg-type, return-value]  # the mistake


async def test_a_key_may_have_to_be_awaited() -> None:
    async def key() -> str:
        return "later"

    config = ClientConfig.read({}, api_key=key)
    assert await config.awaited_authorization() == "Bearer later"
    assert await ClientConfig.read({}, api_key=lambda: "now").awaited_authorization() == "Bearer now"
    assert await ClientConfig.read({}, api_key="fixed").awaited_authorization() == "Bearer fixed"
    with pytest.raises(ConfigurationError, match="must be awaited; use AsyncClient"):
        config.authorization()


def test_a_copy_changes_what_is_given_and_adds_headers() -> None:
    config = ClientConfig.read({}, api_key="k", default_headers={"X-A": "1"}, max_retries=1)
    other = config.but(
        api_key="n", base_url="http://b.test/", timeout=2, max_retries=0, default_headers={"x-a": "2", "x-b": "3"}
    )
    assert (other.authorization(), other.base_url, other.max_retries) == ("Bearer n", "http://b.test", 0)
    assert (other.headers["x-a"], other.headers["x-b"], other.timeout.read) == ("2", "3", 2)
    assert config.but() == config
    query = config.but(default_query={"a": 1}).but(default_query={"b": 2}).query
    assert query == {"a": 1, "b": 2}
    assert config.but(api_key=lambda: "z").authorization() == "Bearer z"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_no_repr_shows_the_key(kind: Any) -> None:
    client = kind(api_key="ff_proj_secret", default_headers={"x-token": "hidden"})
    for shown in (repr(client), repr(client._core), repr(client._core.config), repr(client.workflow("run-42"))):
        assert "ff_proj_secret" not in shown
        assert "hidden" not in shown
    assert "run-42" in repr(client.workflow("run-42"))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_traceback_can_show_a_client_that_was_refused(kind: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(api_key="SECRET key")
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert [frame.locals["self"] for frame in shown.stack if frame.locals and "self" in frame.locals] == [
        f"{kind.__name__}()"
    ]


def test_a_client_reads_the_environment_of_the_process(monkeypatch: Any) -> None:
    for name in list(os.environ):
        if name.startswith("FLATFEE_"):
            monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match="FLATFEE_API_KEY"):
        Client()
    monkeypatch.setenv("FLATFEE_API_KEY", "k")
    monkeypatch.setenv("FLATFEE_BASE_URL", "http://env.test/v1")
    assert "http://env.test/v1" in repr(Client())


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(Client, httpx.AsyncClient()), (AsyncClient, httpx.Client()), (Client, object())],
)
def test_the_wrong_http_client_is_refused(kind: Any, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"http_client is a .*; pass an httpx\."):
        kind(api_key="k", http_client=wrong)


def test_headers_for_every_request_come_from_the_environment() -> None:
    env = {"FLATFEE_API_KEY": "k", "FLATFEE_CUSTOM_HEADERS": "X-Team: blue: green\r\n\n  x-empty:\nX-A: 1\n"}
    headers = ClientConfig.read(env, default_headers={"x-a": "2"}).headers
    assert (headers["x-team"], headers["x-empty"], headers["x-a"]) == ("blue: green", "", "2")
    assert ClientConfig.read(ENV).headers == ClientConfig.read({**ENV, "FLATFEE_CUSTOM_HEADERS": ""}).headers


BAD_LINES = ["SECRET", "SECRET name: x", ": SECRET", "x-a: SÉCRET", "x-a: SEC\x00RET", "Authorization: SECRET"]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_of_headers_is_named_by_its_number_alone(line: str) -> None:
    with pytest.raises(ConfigurationError, match="Line 3 of FLATFEE_CUSTOM_HEADERS is not a header") as caught:
        ClientConfig.read({**ENV, "FLATFEE_CUSTOM_HEADERS": f"x-b: 1\n\n{line}"})
    assert "RET" not in f"{caught.value}{caught.value.__cause__}"
