"""The harness end to end, with tiny counts. Nothing here asserts on a speed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from benchmarks.children import ROOT, BenchmarkFailed, cpu_seconds, free_port, python, server
from benchmarks.gateway_cost import Effort, Scenario
from benchmarks.targets import Target

from benchmarks import gateway_cost, traffic

TINY = Effort(rounds=1, seconds=5.0, warmup=0.0, max_requests=3)
SCENARIOS = {scenario.title for scenario in gateway_cost.SCENARIOS}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python("benchmarks", *arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.processes
def test_a_quick_run_measures_every_scenario_and_keeps_the_raw_figures(tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    done = bench("--quick", "--only", "gateway", "--targets", "direct,bare", "--json", str(raw))
    assert done.returncode == 0, done.stderr
    samples = json.loads(raw.read_text())["gateway"]["samples"]
    assert {(sample["scenario"], sample["target"]) for sample in samples} == {
        (title, target) for title in SCENARIOS for target in ("direct", "bare proxy")
    }
    assert all(sample["figures"]["requests"] and not sample["figures"]["failures"] for sample in samples)
    assert all(title in done.stdout for title in SCENARIOS)


@pytest.mark.processes
def test_a_quick_run_measures_the_double_by_who_asks_it(tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    done = bench("--quick", "--only", "double", "--json", str(raw))
    assert done.returncode == 0, done.stderr
    samples = json.loads(raw.read_text())["double"]
    askers = ["http.client", "flatfee.Client", "flatfee.Client in memory", "openai.OpenAI"]
    assert [sample["asker"] for sample in samples] == askers
    assert all(value >= 0 for sample in samples for value in sample["figures"].values())
    assert all(sample["asker"] in done.stdout for sample in samples)


def test_an_unknown_target_is_named() -> None:
    done = bench("--targets", "direct,fast")
    assert done.returncode == 2
    assert "unknown target 'fast'; use some of direct, bare, gateway" in done.stderr


@contextmanager
def answering(status: int, body: bytes, *, length: int | None = None) -> Iterator[str]:
    """Serve one fixed answer to every request; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = length is not None

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


def take(url: str, shape: traffic.Shape, *, receipt: bool = False) -> gateway_cost.Sample:
    scenario = Scenario(title="one", shape=shape, pace="at_once", connections=2)
    return gateway_cost.sample(scenario, Target(name="fake", url=url, pid=0, receipt=receipt), 0, TINY)


def test_right_answers_are_counted_up_to_the_bound() -> None:
    with answering(200, traffic.completion()) as url:
        figures = take(url, "plain").figures
    assert (figures["requests"], figures["failures"]) == (TINY.max_requests, 0)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]


@pytest.mark.parametrize(
    ("status", "body", "shape", "receipt", "complaint"),
    [
        (500, traffic.completion(), "plain", False, "status 500"),
        (200, b"{}", "plain", False, "2 bytes"),
        (200, traffic.completion(), "plain", True, "no receipt"),
        (200, b"".join(traffic.stream_events()[:-1]), "stream", False, "DONE"),
    ],
)
def test_a_wrong_answer_fails_the_run(
    status: int, body: bytes, shape: traffic.Shape, receipt: bool, complaint: str
) -> None:
    with answering(status, body) as url, pytest.raises(BenchmarkFailed, match=complaint):
        take(url, shape, receipt=receipt)


def test_a_cut_answer_fails_the_run() -> None:
    body = traffic.completion()
    with answering(200, body, length=len(body) + 1) as url, pytest.raises(BenchmarkFailed, match="closed before"):
        take(url, "plain")


def test_a_server_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no configuration')"]
    with (
        pytest.raises(BenchmarkFailed, match="no configuration"),
        server(command, url="http://127.0.0.1:9", core=None, log=tmp_path / "log"),
    ):
        pytest.fail("A server that ended is not ready.")


def test_a_server_lives_as_long_as_its_block(tmp_path: Path) -> None:
    port = free_port()
    command = python("benchmarks.upstream", "--port", str(port))
    with server(command, url=f"http://127.0.0.1:{port}", core=None, log=tmp_path / "log") as pid:
        assert cpu_seconds(pid) is None or cpu_seconds(pid) != 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
