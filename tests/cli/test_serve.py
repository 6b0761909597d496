"""``flatfee serve``: how it says that it is ready, and how it ends."""

from __future__ import annotations

import errno
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from flatfee import Client, ReceiptState
from flatfee.cli.serve import demo_settings

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee

SOURCES = str(Path(__file__).parents[2] / "src")
KEY = "a-secret-of-the-operator-with-40-letters"
LIMIT = 60.0
LONGER_THAN_A_CANCEL = 3.0
"""Seconds after which a gateway that does not wait for its streams has cut them."""

CONFIG = """
providers = [{{name = "slow", kind = "openai", base_url = "http://127.0.0.1:{upstream}/v1", api_key_env = "SLOW_KEY"}}]
routes = [
    {{name = "slow-premium", provider = "slow", model = "slow", tier = "premium", first_token_timeout = 60.0}},
]
plans = [{{name = "pro", fair_use = 100000}}]
accounts = [{{name = "acme", plan = "pro", projects = [{{name = "ci", keys = [{{name = "ci", key_env = "CI_KEY"}}]}}]}}]
server = {{store = "memory://", port = 0}}
"""


class SlowUpstream(ThreadingHTTPServer):
    """A provider whose stream says one word, and the rest once ``go_on`` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SlowAnswer)
        self.go_on = threading.Event()


class _SlowAnswer(BaseHTTPRequestHandler):
    server: SlowUpstream

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self._say({"content": "one "}, None)
        self.server.go_on.wait(4 * LIMIT)  # longer than any test waits for the gateway
        self._say({"content": "two"}, None)
        self._say({}, "stop", usage={"prompt_tokens": 1, "completion_tokens": 2})

    def _say(self, delta: dict[str, str], finish_reason: str | None, **more: object) -> None:
        chunk = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **more}
        with suppress(ConnectionError):  # the gateway may be gone: it was told to
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[SlowUpstream]:
    server = SlowUpstream()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join(LIMIT)


@dataclass
class Served:
    """A running ``flatfee serve``, and where it said it is."""

    process: subprocess.Popen[str]
    url: str

    def connect(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=LIMIT))


@contextmanager
def serving(folder: Path, *arguments: str, **env: str) -> Iterator[Served]:
    """Run ``flatfee serve`` and wait for its ready line, which must come through a pipe at once."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("FLATFEE_", "PYTHONUNBUFFERED"))}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flatfee", "serve", *arguments],
            cwd=folder,
            env=own | {"PYTHONPATH": SOURCES} | env,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout
    # A line that never comes must fail the test, not hang it.
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    try:
        ready = process.stdout.readline()
        watchdog.cancel()
        assert "ready on http://" in ready, (folder / "log").read_text()
        yield Served(process, ready.split()[-1])
    finally:
        watchdog.cancel()
        process.kill()
        process.wait(LIMIT)
        process.stdout.close()


@contextmanager
def streaming(upstream: SlowUpstream, folder: Path) -> Iterator[tuple[Served, Iterator[str]]]:
    """A gateway with one stream under way: its first word was heard, the rest waits for the upstream."""
    (folder / "flatfee.toml").write_text(CONFIG.format(upstream=upstream.server_port))
    with serving(folder, SLOW_KEY="upstream", CI_KEY=KEY) as served, Client(api_key=KEY, base_url=served.url) as client:
        stream = client.chat.completions.create(messages=[{"role": "user", "content": "Go"}], model="auto", stream=True)
        with stream:
            words = (choice.delta.content or "" for chunk in stream for choice in chunk.choices)
            assert next(words) == "one "

            def rest() -> Iterator[str]:
                yield from words
                assert stream.receipt
                yield str(stream.receipt.state)

            yield served, rest()


def ask(connection: http.client.HTTPConnection, method: str, path: str) -> http.client.HTTPResponse:
    connection.request(
        method, path, body=b"{}" if method == "POST" else None, headers={"authorization": f"Bearer {KEY}"}
    )
    return connection.getresponse()


def wait_until_draining(connection: http.client.HTTPConnection) -> None:
    """Return once the gateway refuses new requests: a signal takes a moment to arrive."""
    end = time.monotonic() + LIMIT
    while True:
        response = ask(connection, "GET", "/health/ready")
        response.read()
        if response.status == 503:
            return
        assert time.monotonic() < end, "the gateway did not take note of the signal"


def test_the_ready_line_comes_through_a_pipe_before_anything_is_asked(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as served, served.connect() as connection:
        assert ask(connection, "GET", "/health/ready").status == 200


def test_without_a_file_the_lines_shown_make_a_first_request(tmp_path: Path) -> None:
    """The export and the curl line are run as they are printed, one after the other."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    with serving(tmp_path, "--port", "0") as served:
        assert served.process.stdout
        shown = "".join(itertools.takewhile(lambda line: " chat " not in line, served.process.stdout))
        lines = shown[shown.index("export") :].replace("and then", "")
        key = next(word for word in shown.split() if "ff_proj_" in word).partition("=")[2]
        assert shown.count(key) == 1
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines], capture_output=True, text=True, check=False, timeout=LIMIT
        )
        assert json.loads(done.stdout)["flatfee"]["state"] == ReceiptState.SETTLED, done.stderr
        assert served.url in lines
    assert key not in (tmp_path / "log").read_text()


def test_start_and_end_are_logged_as_our_events_and_nothing_else(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as served:
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[2:5] for line in lines] == [
        ["INFO", "flatfee.server", f"server.{event}"] for event in ("ready", "draining", "stopped")
    ]
    assert f"url={served.url} store=memory://" in lines[0]


def test_at_a_signal_the_stream_that_runs_is_finished_and_what_is_new_is_refused(
    upstream: SlowUpstream, tmp_path: Path
) -> None:
    with streaming(upstream, tmp_path) as (served, rest), served.connect() as kept, served.connect() as new:
        assert ask(kept, "GET", "/health/live").read() == b'{"status":"live"}'
        served.process.send_signal(signal.SIGTERM)
        wait_until_draining(kept)
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(LONGER_THAN_A_CANCEL)
        for connection in (kept, new):
            refused = ask(connection, "POST", "/v1/chat/completions")
            assert refused.status == 503
            assert json.loads(refused.read())["error"]["code"] == "gateway_overloaded"
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["x-should-retry"] == "true"
        upstream.go_on.set()
        assert "".join(rest) == f"two{ReceiptState.SETTLED}"
        assert served.process.wait(LIMIT) == 0


def test_a_second_signal_does_not_wait_for_the_stream(upstream: SlowUpstream, tmp_path: Path) -> None:
    with streaming(upstream, tmp_path) as (served, _), served.connect() as connection:
        served.process.send_signal(signal.SIGTERM)
        wait_until_draining(connection)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == -signal.SIGTERM
        assert not upstream.go_on.is_set()


def fail_to_serve(folder: Path, *arguments: str) -> str:
    """Run ``flatfee serve``, which must end by itself as not started, and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "flatfee", "serve", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_a_port_that_is_taken_is_told_with_the_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = fail_to_serve(tmp_path, "--port", port)
    assert f"did not start on 127.0.0.1:{port}. The port is taken: --port" in told


def test_an_address_of_another_machine_is_told_with_the_cure(tmp_path: Path) -> None:
    told = fail_to_serve(tmp_path, "--host", "192.0.2.1", "--port", "0")
    assert "did not start on 192.0.2.1:0. This machine has no such address: --host" in told


@pytest.mark.parametrize(
    ("cause", "cure"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "--host takes an address of this machine"),
        (PermissionError(errno.EACCES, "Permission denied"), "--port takes a port above 1023"),
        (OSError(errno.EMFILE, "Too many open files"), "The log says why"),
        (None, "The log says why"),
    ],
)
def test_the_cure_follows_from_what_the_system_said(
    cause: Exception | None, cure: str, flatfee: Flatfee, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_started(app: object, on_ready: object) -> None:
        """End as uvicorn does."""
        try:
            if cause:
                raise cause
        finally:
            sys.exit(3)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flatfee.server.run.run", not_started)
    shown = flatfee("serve")
    assert shown.exit_code == 1
    assert "did not start on 127.0.0.1:8787. " in shown.stderr
    assert cure in shown.stderr


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_store_that_cannot_be_opened_is_told_with_key_and_cure(
    by_environment: bool, flatfee: Flatfee, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/missing/ledger.db"
    path = tmp_path / "own.toml"
    path.write_text(CONFIG.format(upstream=9).replace("memory://", "memory://" if by_environment else store))
    env = {"SLOW_KEY": "upstream", "CI_KEY": KEY} | ({"FLATFEE_STORE": store} if by_environment else {})
    shown = flatfee("serve", "--config", str(path), env=env)
    assert shown.exit_code == 2
    where = "FLATFEE_STORE" if by_environment else f"{path}: [server] store"
    assert shown.stderr.startswith(f"{where}: the store {tmp_path}/missing/ledger.db cannot be opened")
    assert "Make its folder" in shown.stderr


def test_a_mistake_in_the_file_is_told_with_file_key_and_cure(flatfee: Flatfee, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[server]\nprot = 1\n")
    shown = flatfee("serve", "--config", str(path))
    assert shown.exit_code == 2
    assert f"{path}: server.prot: unknown key" in shown.stderr
    assert "port" in shown.stderr


def test_an_address_of_the_sixth_version_is_shown_in_brackets(
    flatfee: Flatfee, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flatfee.server.run.run", lambda app, on_ready: on_ready("::1", 8787))
    shown = flatfee("serve")
    assert shown.stdout.startswith("flatfee is ready on http://[::1]:8787/v1\n")
    assert "ff_proj_" in shown.stdout


def test_the_demo_configuration_takes_the_servers_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATFEE_PORT", "9999")
    settings = demo_settings(KEY)
    assert settings.server.port == 9999
    assert settings.accounts[0].projects[0].keys[0].secret.get_secret_value() == KEY
