"""Providers are reached for, and asked nothing."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from flatfee.server.doctor.finding import Verdict
from flatfee.server.doctor.network import examine_provider, is_loopback
from flatfee.server.settings import ProviderSettings


@contextmanager
def listening(answer: bytes = b"") -> Iterator[tuple[int, list[bytes]]]:
    """Something that listens on loopback: its port, and what each caller said to it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                if answer:
                    connection.sendall(answer)
                heard.append(connection.recv(65536))

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], heard
        thread.join()


def at(base_url: str, *, key: str | None = "secret") -> ProviderSettings:
    return ProviderSettings(
        name="north", kind="openai", base_url=base_url, api_key=SecretStr(key) if key is not None else None
    )


def test_something_that_listens_is_fine_and_hears_nothing() -> None:
    with listening() as (port, heard):
        (finding,) = examine_provider(at(f"http://127.0.0.1:{port}/v1", key=None))
    assert (finding.verdict, finding.check) == (Verdict.OK, "provider north")
    assert heard == [b""]


def test_nothing_that_listens_is_a_failure_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (finding,) = examine_provider(at(f"http://127.0.0.1:{port}/v1"))
    assert finding.verdict == Verdict.FAIL
    assert f"127.0.0.1:{port} cannot be reached" in finding.found


def test_a_name_that_does_not_resolve_is_a_failure() -> None:
    (finding,) = examine_provider(at("https://nowhere.invalid/v1"))
    assert finding.verdict == Verdict.FAIL
    assert "nowhere.invalid does not resolve" in finding.found


def test_https_to_a_port_without_it_is_told() -> None:
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (port, _):
        (finding,) = examine_provider(at(f"https://127.0.0.1:{port}/v1"))
    assert finding.verdict == Verdict.FAIL
    assert "does not speak TLS" in finding.found


def test_a_certificate_that_nobody_vouches_for_is_told(tmp_path: Path) -> None:
    """A connection that is cut for the certificate's sake is the caller's doing, and no failure of the server's."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=north"
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    subprocess.run([*make.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        (finding,) = examine_provider(at(f"https://127.0.0.1:{server.getsockname()[1]}/v1"))
        thread.join()
    assert finding.verdict == Verdict.FAIL
    assert "shows a certificate that is not valid" in finding.found


@pytest.mark.parametrize(
    ("base_url", "key", "warnings"),
    [
        ("http://nowhere.invalid/v1", "secret", ["unencrypted"]),
        ("http://nowhere.invalid/v1", None, ["unencrypted", "no key"]),
        ("https://nowhere.invalid/v1", None, ["no key"]),
        ("https://nowhere.invalid/v1", "secret", []),
    ],
)
def test_another_host_wants_https_and_a_key(base_url: str, key: str | None, warnings: list[str]) -> None:
    found = [finding.found for finding in examine_provider(at(base_url, key=key)) if finding.verdict == Verdict.WARN]
    assert len(found) == len(warnings)
    assert all(part in text for part, text in zip(warnings, found, strict=True))


def test_a_simulated_provider_has_nothing_to_reach() -> None:
    (finding,) = examine_provider(ProviderSettings(name="sim", kind="simulated"))
    assert finding.verdict == Verdict.OK


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("llm.localhost", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("api.openai.com", False),
    ],
)
def test_loopback_is_told_by_name_or_address(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
