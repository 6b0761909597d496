"""The control API tells where the gateway is, moves its clock, starts others, and is for programs on this machine."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.testing.control.conftest import Caller

import flatfee
from flatfee.testing.control import family
from flatfee.testing.control.process import check_loopback
from flatfee.testing.gateway import ScriptedGateway

HELLO = [{"role": "user", "content": "Hello"}]


def client_of(told: dict[str, Any]) -> flatfee.Client:
    return flatfee.Client(api_key=told["api_key"], base_url=told["base_url"], max_retries=0)


def test_tells_what_a_client_needs(control: Caller) -> None:
    with client_of(control.told("GET", "")) as client:
        assert client.chat.completions.create(model="economy", messages=HELLO).receipt is not None


def test_lets_time_go_by(control: Caller) -> None:
    before = datetime.fromisoformat(control.told("GET", "/clock")["now"])
    after = datetime.fromisoformat(control.told("POST", "/clock", {"advance": 3600})["now"])
    assert after - before >= timedelta(hours=1)


def test_says_what_is_wrong_with_a_body(control: Caller) -> None:
    assert control.refused("POST", "/clock", {"advance": -1}) == (
        "advance is -1; input should be greater than or equal to 0."
    )
    assert control.refused("POST", "/clock", {"advance": 1, "by": 2}) == (
        "There is no member 'by' here; there are: advance, advance_to."
    )
    assert control.refused("POST", "/clock", {}).startswith("Send advance (seconds), or advance_to")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/clock", {"advance": 1e308}),
        ("POST", "/clock", {"advance_to": "9999-12-31T23:59:59Z"}),
        ("POST", "/clock", {"advance_to": "2027-01-01T00:00:00"}),
        ("POST", "/workflows", {"hold": 10**30}),
        ("POST", "/verdict", {"settle": 1e9}),
        ("POST", "/gateways", {"routes": 1}),
        ("POST", "/gateways", {"seed": []}),
        ("PATCH", "/account", {"self": 1}),
        ("DELETE", "/gateways/²", None),
    ],
)
def test_refuses_what_would_break_it(control: Caller, method: str, path: str, body: Any) -> None:
    assert control.refused(method, path, body)
    assert control.told("GET", "/account")["window"]


def test_tells_what_nobody_foresaw(
    control: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(gateway: ScriptedGateway) -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(ScriptedGateway, "reset", crash)
    answer = control.ask("POST", "/reset")
    assert answer.status_code == 503
    assert "RuntimeError: out of cheese" in answer.json()["error"]["message"]
    assert caplog.records[-1].exc_info is not None


def test_lists_what_there_is_where_a_path_is_wrong(control: Caller) -> None:
    assert "POST /_test/clock" in control.refused("GET", "/cloak")


def test_starts_gateways_that_share_nothing(control: Caller) -> None:
    other = control.told("POST", "/gateways", {"fair_use": 7})
    with client_of(other) as client:
        fair_use = client.usage.retrieve().fair_use
        assert fair_use is not None
        assert fair_use.limit == 7
    with (
        client_of({**other, "base_url": control.told("GET", "")["base_url"]}) as client,
        pytest.raises(flatfee.AuthenticationError),
    ):
        client.usage.retrieve()


def test_ends_a_gateway_that_it_started(control: Caller) -> None:
    other = control.told("POST", "/gateways", {})
    port = other["base_url"].split(":")[2].split("/")[0]
    assert control.told("DELETE", f"/gateways/{port}")["ended"]
    with client_of(other) as client, pytest.raises(flatfee.APIConnectionError):
        client.usage.retrieve()
    assert f"There is no gateway at port {port}" in control.refused("DELETE", f"/gateways/{port}")


def test_does_not_end_itself_in_mid_answer(control: Caller) -> None:
    port = control.base_url.split(":")[2].split("/")[0]
    assert "cannot end itself" in control.refused("DELETE", f"/gateways/{port}")


def test_starts_only_so_many(control: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "MOST", 1)
    assert "There are 1 gateways already" in control.refused("POST", "/gateways", {})


@pytest.mark.parametrize("name", ["config", "record", "replay", "redact", "host", "port", "socket"])
def test_lets_no_request_choose_files_providers_and_addresses(control: Caller, name: str) -> None:
    message = control.refused("POST", "/gateways", {name: "/etc/passwd"})
    assert message == f"{name!r} is not for a request to choose; give it to flatfee serve --test."


def test_is_told_to_stop(control: Caller) -> None:
    control.told("POST", "/stop")
    assert control.ended.wait(60)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://127.0.0.1"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-origin"},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil"},
        {"host": "", "x-forwarded-host": "localhost"},
    ],
)
def test_answers_no_page(control: Caller, headers: dict[str, str]) -> None:
    answer = control.ask("POST", "/stop", headers=headers)
    assert answer.status_code == 403
    assert not control.ended.is_set()


@pytest.mark.parametrize("headers", [{"host": "localhost:80"}, {"host": "[::1]"}, {"sec-fetch-site": "none"}])
def test_answers_who_asks_from_this_machine(control: Caller, headers: dict[str, str]) -> None:
    assert control.ask("GET", "/clock", headers=headers).status_code == 200


def test_gives_a_body_the_time_that_it_takes(control: Caller) -> None:
    """A head and a body that come one after the other, while the time of a silent provider is skipped."""
    told = control.told("GET", "")
    control.told("POST", "/script", {"replies": [{"text": "late", "delay": 100}]})
    address = urlsplit(control.base_url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as slow, client_of(told) as client:
        head = f"POST /_test/clock HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 14\r\n\r\n"
        slow.sendall(head.encode())
        control.told("GET", "/clock")  # by then the head is read
        with ThreadPoolExecutor(1) as beside:
            answer = beside.submit(client.chat.completions.create, model="economy", messages=HELLO)
            while not control.told("GET", "/journal")["data"]:
                assert not answer.done()
            slow.sendall(b'{"advance": 1}')
            assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200")
            assert answer.result(60).choices[0].message.content == "late"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "example.com", "::"])
def test_serves_this_machine_only(host: str) -> None:
    with pytest.raises(ValueError, match="on this machine only"):
        check_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_serves_on_loopback(host: str) -> None:
    check_loopback(host)
