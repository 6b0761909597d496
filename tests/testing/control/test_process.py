"""``flatfee serve --test`` says in one line where it is, and ends when it is told to, by whatever way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from tests.testing.tapes import upstream

import flatfee

pytestmark = pytest.mark.processes

ROOT: Final = Path(__file__).parents[3]
LIMIT: Final = 100.0
ENVIRONMENT: Final = os.environ | {"PYTHONPATH": str(ROOT / "src")}


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    line = [sys.executable, "-m", "flatfee", "serve", "--test", *options]
    process = subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | environment,
    )
    with process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first, process.communicate(timeout=LIMIT)
            yield process, json.loads(first)
        finally:
            process.kill()


def refused(*options: str, **how: Any) -> str:
    line = [sys.executable, "-m", "flatfee", "serve", *options]
    done = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, timeout=LIMIT, check=False, **how)
    assert done.returncode == 2, done
    return str(done.stderr)


def test_says_where_it_is_in_one_line() -> None:
    with serving() as (process, told):
        assert told["flatfee"] == "ready"
        assert told["pid"] == process.pid
        with flatfee.Client(api_key=told["api_key"], base_url=told["base_url"]) as client:
            answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hello"}])
        assert answer.receipt is not None
        assert len(httpx.get(f"{told['control_url']}/journal").json()["data"]) == 1


def test_ends_at_once_while_others_wait() -> None:
    with serving("--host", "::1") as (process, told), ThreadPoolExecutor() as beside:
        assert told["control_url"].startswith("http://[::1]:")
        begun = time.monotonic()
        waiting = beside.submit(httpx.get, f"{told['control_url']}/journal?wait_for=1&timeout=50", timeout=LIMIT)
        httpx.post(f"{told['control_url']}/script", json={"replies": ["late"], "gate": "first"})
        asked = beside.submit(weather, told)
        while httpx.get(f"{told['control_url']}/gates/first").json()["waiting"] < 1:
            assert not asked.done()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
        assert time.monotonic() - begun < 40
        assert isinstance(waiting.exception(), httpx.TransportError)
        assert isinstance(asked.exception(), flatfee.APIConnectionError)
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("way", ["stop", "SIGTERM", "SIGINT", "stdin"])
def test_ends_when_it_is_told_to(way: str) -> None:
    with serving(*(["--end-with-stdin"] if way == "stdin" else [])) as (process, told):
        if way == "stop":
            assert httpx.post(f"{told['control_url']}/stop").json()["ended"]
        elif way == "stdin":
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[way])
        assert process.wait(LIMIT) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_may_be_strict_and_take_a_configuration(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "flatfee", "init"], cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True
    )
    with serving("--strict", "--config", str(tmp_path / "flatfee.toml")) as (_, told):
        routes = {route["name"] for route in httpx.get(f"{told['control_url']}/routes").json()["data"]}
        assert "premium-a" not in routes
        with (
            flatfee.Client(api_key=told["api_key"], base_url=told["base_url"]) as client,
            pytest.raises(flatfee.BadRequestError, match="no rule"),
        ):
            client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hello"}])


def test_records_real_providers_and_replays_them(tmp_path: Path) -> None:
    tapes = tmp_path / "tapes"
    with upstream.serving() as provider:
        (tmp_path / "flatfee.toml").write_text(provider.config)
        record = ["--record", str(tapes), "--config", str(tmp_path / "flatfee.toml")]
        with serving(*record, UP_KEY=upstream.KEY) as (process, told):
            recorded = weather(told)
            httpx.post(f"{told['control_url']}/stop")
            assert process.wait(LIMIT) == 0
    (tape,) = tapes.iterdir()
    assert upstream.KEY not in tape.read_text()
    with serving("--replay", str(tapes), "--strict") as (_, told):
        assert weather(told) == recorded == "It is sunny in Lisbon."


def weather(told: dict[str, Any]) -> str | None:
    with flatfee.Client(api_key=told["api_key"], base_url=told["base_url"]) as client:
        question = {"role": "user", "content": "How is the weather?"}
        answer: flatfee.ChatCompletion = client.chat.completions.create(model="premium", messages=[question])
    return answer.choices[0].message.content


def test_says_what_is_wrong_with_its_options() -> None:
    assert "on this machine only, not on '0.0.0.0'" in refused("--test", "--host", "0.0.0.0")
    assert "go with --test only" in refused("--strict")
    assert "config" in refused("--test", "--record", "tapes")
    assert "leave --workers out" in refused("--test", "--workers", "2")
    assert "there is no standard input" in refused("--test", "--end-with-stdin", preexec_fn=partial(os.close, 0))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refused("--test", "--port", str(port))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_example_of_another_language_passes(tmp_path: Path) -> None:
    command = tmp_path / "flatfee"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flatfee "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        ["node", "--test", "agent.test.mjs"],
        cwd=ROOT / "examples" / "testing" / "node",
        env=ENVIRONMENT | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 4" in done.stdout
