"""``flatfee serve`` in a process of its own, in front of an upstream that waits in mid-stream."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from flatfee import Client

SOURCES = str(Path(__file__).parents[2] / "src")
KEY = "a-secret-of-the-operator-with-40-letters"
LIMIT = 60.0

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


@contextmanager
def slow_upstream() -> Iterator[SlowUpstream]:
    """Run an upstream on loopback; what still waits there at the end goes on."""
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
def begun_stream(client: Client) -> Iterator[Iterator[str]]:
    """A stream under way: its first word was heard. Yields the rest, and the receipt's state as its last word."""
    with client.chat.completions.create(
        messages=[{"role": "user", "content": "Go"}], model="auto", stream=True
    ) as stream:
        words = (choice.delta.content or "" for chunk in stream for choice in chunk.choices)
        assert next(words) == "one "

        def rest() -> Iterator[str]:
            yield from words
            assert stream.receipt
            yield str(stream.receipt.state)

        yield rest()


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


def fail_to_serve(folder: Path, *arguments: str) -> str:
    """Run ``flatfee serve``, which must end by itself as not started, and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "flatfee", "serve", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": SOURCES, "SLOW_KEY": "upstream", "CI_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr
