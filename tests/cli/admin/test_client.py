"""The admin API's client: what it sends, and how every kind of answer is taken."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from flatfee.cli.admin.client import Admin, NotAName, Refused, Unreachable, path

Answer = Callable[[httpx.Request], httpx.Response]


def admin(answer: Answer) -> Admin:
    return Admin(httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://gateway.test"))


def test_what_is_none_is_not_sent() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    with admin(answer) as api:
        api.get("/keys", account="acme", project=None)
        api.post("/accounts", {"name": "acme", "billing": None})
    assert str(sent[0].url) == "http://gateway.test/admin/v1/keys?account=acme"
    assert (str(sent[1].url), json.loads(sent[1].content)) == (
        "http://gateway.test/admin/v1/accounts",
        {"name": "acme"},
    )


def test_a_list_is_read_to_its_end() -> None:
    pages = {None: (["a", "b"], True), "b": (["c"], False)}

    def answer(request: httpx.Request) -> httpx.Response:
        names, more = pages[request.url.params.get("after")]
        data = [{"name": name} for name in names]
        return httpx.Response(200, json={"object": "list", "data": data, "has_more": more})

    with admin(answer) as api:
        told = api.all("/accounts")
    assert [entry["name"] for entry in told["data"]] == ["a", "b", "c"]
    assert told["has_more"] is False


def test_a_list_that_does_not_advance_is_not_read_for_ever() -> None:
    page = {"object": "list", "data": [{"name": "a"}], "has_more": True}
    with admin(lambda request: httpx.Response(200, json=page)) as api:
        assert len(api.all("/accounts")["data"]) == 2


def test_a_refusal_carries_code_and_message() -> None:
    envelope = {"error": {"code": "not_found", "message": "There is no account 'x'."}}
    with admin(lambda request: httpx.Response(404, json=envelope)) as api, pytest.raises(Refused) as caught:
        api.get("/accounts/x")
    assert (caught.value.status, caught.value.code, str(caught.value)) == (404, "not_found", "There is no account 'x'.")


@pytest.mark.parametrize("envelope", [{}, {"error": "no"}, {"error": {"code": None, "message": ""}}])
def test_a_refusal_without_a_reason_is_told_by_its_status(envelope: object) -> None:
    with admin(lambda request: httpx.Response(418, json=envelope)) as api, pytest.raises(Refused) as caught:
        api.get("/accounts")
    assert (caught.value.code, str(caught.value)) == ("status 418", "The gateway gave no reason.")


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"\xff"])
def test_what_is_no_gateway_is_told(content: bytes) -> None:
    with (
        admin(lambda request: httpx.Response(200, content=content)) as api,
        pytest.raises(Unreachable, match="it is no flatfee gateway"),
    ):
        api.get("/accounts")


def test_an_empty_answer_is_an_empty_object() -> None:
    with admin(lambda request: httpx.Response(204)) as api:
        assert api.delete("/keys/key_1") == {}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (httpx.ConnectError("Connection refused"), "http://gateway.test cannot be reached: Connection refused"),
        (httpx.ReadTimeout(""), "http://gateway.test did not answer within 30 s"),
    ],
)
def test_no_answer_is_told_with_the_address(error: Exception, says: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    with admin(answer) as api, pytest.raises(Unreachable, match=says):
        api.get("/accounts")


def test_names_become_a_path() -> None:
    assert path("accounts", "acme", "projects", "a.b-c_1") == "/accounts/acme/projects/a.b-c_1"


@pytest.mark.parametrize("name", ["", ".", "..", "../keys", "a/b", "a?b", "a#b", "a b", "ä", "a" * 129, "a%2e"])
def test_what_would_lead_to_another_resource_is_no_name(name: str) -> None:
    """``DELETE …/projects/..`` would be the account's."""
    with pytest.raises(NotAName):
        path("accounts", "acme", "projects", name)
