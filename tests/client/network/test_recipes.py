"""The recipes of docs/guides/http-clients.md, each against the thing it is for."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import flatfee
from flatfee import APIConnectionError, AsyncClient, Client

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "http-clients.md"
ASK: Any = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    yield
    flatfee.client.http._certificates.cache_clear()


@pytest.fixture
def recipe() -> Any:
    """Return a function of the page by its name."""

    def find(name: str) -> Any:
        for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
            if f"def {name}(" in code:
                namespace: dict[str, Any] = {}
                exec(code.partition("\nwith ")[0], namespace)
                return namespace[name]
        raise AssertionError(f"there is no recipe {name}")

    return find


@pytest.fixture
def authority(tmp_path: Path) -> Any:
    """Return a certificate authority that only this test knows; ``file`` is where its certificate is."""
    ca: Any = trustme.CA()
    ca.file = str(tmp_path / "ca.pem")
    ca.cert_pem.write_to_path(ca.file)
    return ca


def server_context(authority: Any, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if mutual:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def tunnel(peer: Any) -> None:
    """Answer CONNECT as a proxy does, then carry bytes both ways until either side is done."""
    host, _, port = peer.request.split()[1].decode().partition(":")
    with socket.create_connection((host, int(port))) as far:
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=carry, args=(far, peer.connection))
        back.start()
        carry(peer.connection, far)
        back.join(30)


def carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def ask(url: str, http_client: Any = None) -> Any:
    with Client(api_key="k", base_url=url, http_client=http_client, max_retries=0) as client:
        return client.chat.completions.create(**ASK).choices[0].message.content


def test_a_proxy_carries_tls_to_the_gateway(serve: Any, authority: Any, recipe: Any, monkeypatch: Any) -> None:
    proxy, gateway = serve(tunnel), serve(context=server_context(authority))
    monkeypatch.setenv("SSL_CERT_FILE", authority.file)
    with recipe("behind_proxy")(proxy.url.removesuffix("/v1")) as http_client:
        assert ask(gateway.url, http_client) == "hi"
    assert proxy.peers[0].request.startswith(b"CONNECT localhost:%d " % gateway.port)
    assert b"Bearer" not in proxy.peers[0].request


async def test_a_proxy_of_the_environment_is_used(serve: Any, authority: Any, monkeypatch: Any) -> None:
    proxy, gateway = serve(tunnel), serve(context=server_context(authority))
    monkeypatch.setenv("SSL_CERT_FILE", authority.file)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.removesuffix("/v1"))
    assert ask(gateway.url) == "hi"
    async with AsyncClient(api_key="k", base_url=gateway.url) as client:
        assert (await client.chat.completions.create(**ASK)).choices
    assert len(proxy.peers) == 2


@pytest.mark.pain(21)
def test_proxies_are_a_recipe_and_no_argument_that_a_library_may_drop(serve: Any, recipe: Any) -> None:
    """``httpx`` 0.28 dropped ``proxies``, and every SDK that passed it on broke."""
    with recipe("behind_proxy")("http://127.0.0.1:9") as http_client, pytest.raises(APIConnectionError):
        ask(serve().url, http_client)


def test_an_authority_of_ones_own_is_trusted_and_no_other(serve: Any, authority: Any, recipe: Any) -> None:
    gateway = serve(context=server_context(authority))
    with recipe("trusting")(authority.file) as http_client:
        assert ask(gateway.url, http_client) == "hi"
    with pytest.raises(APIConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(gateway.url)


def test_the_environment_may_name_the_authority(serve: Any, authority: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.file)
    assert ask(serve(context=server_context(authority)).url) == "hi"


def test_a_gateway_may_ask_for_a_certificate(serve: Any, authority: Any, recipe: Any, tmp_path: Path) -> None:
    gateway = serve(context=server_context(authority, mutual=True))
    certificate = str(tmp_path / "client.pem")
    authority.issue_cert("client@example.test").private_key_and_cert_chain_pem.write_to_path(certificate)
    with recipe("trusting")(authority.file, certificate) as http_client:
        assert ask(gateway.url, http_client) == "hi"
    with recipe("trusting")(authority.file) as http_client, pytest.raises(APIConnectionError):
        ask(gateway.url, http_client)


def test_a_unix_socket_is_a_way_too(serve: Any, recipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "s"
    serve(path=path)
    with recipe("over_socket")(str(path)) as http_client:
        assert ask("http://localhost/v1", http_client) == "hi"


async def test_the_default_clients_take_options_over_our_limits() -> None:
    with flatfee.DefaultHttpxClient(headers={"x-team": "a"}) as http_client:
        assert http_client.headers["x-team"] == "a"
        assert http_client._transport._pool._max_connections == 1000  # type: ignore[attr-defined]  # no public name
    async with flatfee.DefaultAsyncHttpxClient(limits=httpx.Limits(max_connections=7)) as ahttp_client:
        assert ahttp_client._transport._pool._max_connections == 7  # type: ignore[attr-defined]  # no public name
