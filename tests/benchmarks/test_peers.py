"""The gateway beside its peers: what is asked, how each is set up, what is read of it. Nothing asserts on a speed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest
from benchmarks.children import ROOT, BenchmarkFailed, cpu_seconds, python, resident_mb
from benchmarks.load import KEY_ENV
from benchmarks.peers import checks, gateways, goals, measuring, nginx, report, workers, wrk
from benchmarks.peers.gateways import ROWS
from benchmarks.peers.goals import GOALS, Goal
from benchmarks.peers.measuring import Effort, Measured, Refusal, Sample, Start, rest
from benchmarks.peers.workers import ONE_CORE, TWO_CORES, Arrangement
from benchmarks.peers.workloads import WORKLOADS, Workload, named
from benchmarks.traffic import Shape, answer_text, completion, stream_events

from benchmarks import load, targets
from flatfee.server.configuration import parse_settings

UPSTREAM = "http://127.0.0.1:9"
STREAM = b"".join(stream_events())


def a_sample(target: str, rate: float = 100.0, *, workload: str = "plain-16", at: int = 0, p50: float = 1.0) -> Sample:
    return Sample(
        workload=workload,
        target=target,
        round=at,
        requests=round(rate),
        seconds=1.0,
        per_second=rate,
        p50_ms=p50,
        p99_ms=2 * p50,
        cpu_us=10.0,
        loaded_mb=50.0,
    )


def a_run(*samples: Sample, refusals: tuple[Refusal, ...] = ()) -> Measured:
    return Measured(starts=(), refusals=refusals, samples=samples, checked={})


# --- What is asked ---


def test_but_for_the_models_name_every_target_is_sent_the_same_bytes() -> None:
    for workload in WORKLOADS:
        ours, theirs = workload.body("auto"), workload.body("tensorzero::model_name::auto")
        assert ours.replace(b'"model":"auto"', b'"model":"tensorzero::model_name::auto"') == theirs


def test_a_long_prompt_is_about_100_kb() -> None:
    (long,) = named(["long-1"])
    assert 99_000 < len(long.body("auto")) < 101_000


def test_an_unknown_workload_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'fast'; use some of each-16, .*plain-1,"):
        named(["plain-1", "fast"])


def test_workloads_come_in_the_order_of_the_report() -> None:
    assert [workload.name for workload in named(["stream-1", "plain-1"])] == ["plain-1", "stream-1"]


def test_no_two_events_in_a_row_say_the_same() -> None:
    """LiteLLM ends a stream that does: it takes the model to be repeating itself."""
    contents = stream_events()[:-3]
    assert all(one != other for one, other in pairwise(contents))
    assert {len(event) for event in contents} == {230}


# --- How each is set up ---


def test_tensorzero_is_given_a_model_without_a_database() -> None:
    config = tomllib.loads(gateways.tensorzero_config(UPSTREAM))
    assert config["gateway"]["observability"]["enabled"] is False
    assert config["models"]["auto"]["providers"]["fixed"]["api_base"] == f"{UPSTREAM}/v1/"


def test_portkey_is_told_of_the_upstream_in_headers() -> None:
    assert f"x-portkey-custom-host: {UPSTREAM}/v1" in gateways.portkey_headers(UPSTREAM)


def test_litellm_is_given_a_model_and_a_master_key() -> None:
    config = gateways.litellm_config(UPSTREAM)
    assert f"api_base: {UPSTREAM}/v1\n" in config
    assert "master_key: sk-" in config


@pytest.mark.parametrize(
    ("durability", "store", "kept"), [(None, "memory://", "process"), ("power", "sqlite:////x/y.db", "power")]
)
def test_our_configuration_is_one_that_the_gateway_takes(
    durability: targets.Durability | None, store: str, kept: str
) -> None:
    text = targets.configuration(UPSTREAM, Path("/x/y.db"), durability)
    server = parse_settings(text, source="bench", env={KEY_ENV: "k" * 64}).server
    assert (server.store, server.durability) == (store, kept)


def test_nginx_answers_a_post_with_the_fixed_file(tmp_path: Path) -> None:
    config = nginx.upstream_config(tmp_path, 4321, "stream")
    assert "listen 127.0.0.1:4321 " in config
    assert "error_page 405 =200 /answer;" in config
    assert "default_type text/event-stream;" in config


def test_nginx_as_a_proxy_keeps_its_connections_and_holds_no_event_back(tmp_path: Path) -> None:
    config = nginx.proxy_config(tmp_path, 4321, UPSTREAM, "stream")
    assert "server 127.0.0.1:9;" in config
    assert 'proxy_set_header Connection "";' in config
    assert "proxy_buffering off;" in config


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "found", lambda program: None)
    with pytest.raises(BenchmarkFailed, match=r"no nginx.* apt-get install nginx-light"):
        nginx.needed("nginx")


def test_a_peer_that_is_not_installed_is_told_how_to_get(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gateways, "ENVIRONMENTS", tmp_path)
    assert ROWS["litellm"].missing() == "litellm is not installed; make bench-peers installs it"
    assert ROWS["litellm"].version() == "absent"


def test_every_row_says_what_it_did() -> None:
    assert all(getattr(row.did, field) for row in ROWS.values() for field in row.did.__slots__)
    assert [name for name, row in ROWS.items() if row.did.durable != "no"] == ["process", "power"]


# --- wrk ---


def test_wrks_script_sends_the_body_and_the_headers(tmp_path: Path) -> None:
    script = wrk.script(tmp_path / "body.json", ["content-type: application/json", "x-host: http://a:1/v1"])
    assert f'io.open("{tmp_path}/body.json", "rb")' in script
    assert 'wrk.headers["x-host"] = "http://a:1/v1"' in script


def test_a_header_that_could_end_its_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not printable"):
        wrk.script(tmp_path / "body.json", ["x-host: a\r\nb"])


TOLD = (
    'told: {"requests": 500, "duration_us": 2000000, "p50_us": 1500, "p99_us": 4000, "connect": 0, "read": 2, '
    '"write": 0, "timeout": 0, "status": 7}\n'
)


def test_what_wrk_told_is_read_in_seconds_and_milliseconds() -> None:
    told = wrk.parse(f"Running 2s test @ {UPSTREAM}\n{TOLD}")
    assert (told.per_second, told.p50_ms, told.p99_ms) == (250.0, 1.5, 4.0)
    assert told.errors == {"read": 2, "status": 7}


def test_a_run_of_wrk_that_told_nothing_fails() -> None:
    with pytest.raises(BenchmarkFailed, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:9\n")


# --- Whole answers ---


def test_the_upstreams_own_answers_are_whole() -> None:
    assert checks.judge("plain", 200, completion(), receipt=False).refused is None
    assert checks.judge("stream", 200, STREAM, receipt=False) == checks.Checked(refused=None, events=203)


def test_an_answer_may_be_written_anew() -> None:
    """Other names, other order, fewer fields: what it says is what counts."""
    answer = {"usage": {"total_tokens": 248}, "choices": [{"message": {"content": answer_text("plain")}}]}
    assert checks.judge("plain", 200, json.dumps(answer).encode(), receipt=False).refused is None


@pytest.mark.parametrize(
    ("shape", "status", "body", "receipt", "said"),
    [
        ("stream", 500, b'{"status":"failure"}', False, 'status 500: {"status":"failure"}'),
        ("plain", 200, completion(), True, "no receipt"),
        ("plain", 200, b"<html>", False, "not an answer"),
        ("plain", 200, completion().replace(b"xx", b"x"), False, "not what the upstream said"),
        ("plain", 200, completion().replace(b":248", b":249"), False, "usage is not"),
        ("stream", 200, STREAM[:-20], False, "does not end with"),
        ("stream", 200, STREAM.replace(b"steady007", b"steady008"), False, "not what the upstream said"),
        ("stream", 200, STREAM.replace(b":248", b":249"), False, "tells no usage"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(shape: Shape, status: int, body: bytes, receipt: bool, said: str) -> None:
    refused = checks.judge(shape, status, body, receipt=receipt).refused
    assert refused is not None
    assert said in refused


def test_who_does_not_answer_is_said_to() -> None:
    refused = checks.ask(targets.Target(name="gone", url=UPSTREAM, pid=0), "plain", b"{}").refused
    assert refused is not None
    assert "ConnectionRefused" in refused


# --- Goals ---

MORE = Goal(name="more", workload="plain-16", figure="per_second", target="process", against="nginx", least=0.5)
ADDED = replace(MORE, figure="p50_ms", least=None, most=3, beyond="direct")


def test_a_goal_is_judged_by_the_median_of_the_rounds_ratios() -> None:
    rounds = [(60.0, 100.0), (40.0, 100.0), (55.0, 100.0)]
    samples = [a_sample("process", ours, at=at) for at, (ours, _) in enumerate(rounds)]
    samples += [a_sample("nginx", theirs, at=at) for at, (_, theirs) in enumerate(rounds)]
    (verdict,) = goals.judge(samples, [MORE])
    assert (verdict.measured, verdict.lowest, verdict.highest, verdict.reached) == (0.55, 0.4, 0.6, True)
    assert goals.judge(samples, [replace(MORE, least=0.56)])[0].reached is False


def test_added_latency_is_what_is_left_without_the_upstreams_own() -> None:
    samples = [a_sample("process", p50=5.0), a_sample("nginx", p50=2.0), a_sample("direct", p50=1.0)]
    (verdict,) = goals.judge(samples, [ADDED])
    assert (verdict.measured, verdict.reached, verdict.wanted) == (4.0, False, "≤ 3")


def test_a_goal_without_its_other_side_is_not_called_reached() -> None:
    (verdict,) = goals.judge([a_sample("process")], [MORE])
    assert (verdict.measured, verdict.reached) == (None, None)


def test_a_sample_with_errors_counts_for_nothing() -> None:
    failed = replace(a_sample("nginx"), errors={"status": 1})
    assert goals.judge([a_sample("process"), failed], [MORE])[0].measured is None


def test_goals_of_which_nothing_was_measured_are_left_out() -> None:
    assert goals.judge([a_sample("process", workload="long-1")], GOALS) == []


def test_every_goal_is_of_targets_and_workloads_there_are() -> None:
    known = {workload.name for workload in WORKLOADS} | {workers.SHARED.name}
    assert {goal.workload for goal in GOALS} <= known
    assert {goal.target for goal in GOALS} | {goal.against for goal in GOALS} <= {*ROWS, ONE_CORE, TWO_CORES}
    assert all((goal.least is None) != (goal.most is None) for goal in GOALS)


# --- The report ---


def test_a_row_has_its_figures_and_ours_against_it() -> None:
    text = report.tables(a_run(a_sample("nginx", 400.0), a_sample("process", 100.0)))
    (row,) = (line for line in text.splitlines() if line.startswith("  nginx"))
    assert row.split() == ["nginx", "400", "400", "400", "1.00", "2.00", "10", "0.25"]


def test_what_a_target_cannot_do_is_in_the_table_and_below_it() -> None:
    refusal = Refusal(target="portkey", workload="stream-16", said="status 500: failure")
    run = a_run(a_sample("process", workload="stream-16"), refusals=(refusal,))
    assert "portkey: cannot" in report.tables(run)
    assert report.refusals_lines(run.refusals) == "portkey cannot do stream-16: status 500: failure"


def test_a_failed_round_is_told_and_gives_no_figure() -> None:
    failed = replace(a_sample("nginx", 400.0), errors={"status": 3})
    text = report.tables(a_run(failed, a_sample("process")))
    (row,) = (line for line in text.splitlines() if line.startswith("  nginx"))
    assert "1 of 1 rounds FAILED: 3 status" in row
    assert "400" not in row


def test_who_answers_nothing_whole_is_said_to() -> None:
    slow = replace(a_sample("litellm"), requests=0, per_second=0.0, cpu_us=None, seconds=12.0)
    assert "litellm: none whole in 12 s" in report.tables(a_run(slow, a_sample("process")))


def test_the_table_of_targets_tells_what_each_left_undone() -> None:
    start = Start(target="litellm", phase="plain", seconds=8.0, idle_mb=325.0, idle_cpu=0.002)
    run = replace(a_run(a_sample("litellm")), starts=(start,))
    text = report.targets_table(["litellm"], run, {"litellm": "1.2.3"})
    assert "1.2.3" in text
    assert "8.0      325       50      0.2%  master key only  routing only      no        no       no" in text


def test_goals_are_laid_out_with_their_verdict() -> None:
    text = report.goals_table(goals.judge([a_sample("process", 40.0), a_sample("nginx")], [MORE]))
    assert text.splitlines()[1].split() == ["more", "≥", "0.5", "0.4", "0.4", "0.4", "NOT", "reached"]


# --- Two workers ---


def test_two_workers_are_compared_on_as_many_cores_as_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: (4, 5))
    both = frozenset({4, 5})
    assert workers.arrangements()[:2] == (
        Arrangement(name=ONE_CORE, workers=1, gateway=4, others=4),
        Arrangement(name=TWO_CORES, workers=2, gateway=both, others=both),
    )


def test_where_nothing_can_be_pinned_workers_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: (None, None))
    assert workers.arrangements() == ()


# --- Processes, and the whole ---


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell")
def test_memory_is_that_of_the_whole_family() -> None:
    family = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", family], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()  # the child is there
        alone = int(Path(f"/proc/{parent.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        both = resident_mb(parent.pid)
        parent.communicate(b"\n")
    assert both is not None
    assert both > 1.5 * alone
    assert cpu_seconds(parent.pid) is None


def test_a_process_that_ended_is_at_rest() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    rest("gone", child.pid)


GONE = targets.Target(name="gone", url=UPSTREAM, pid=0)
LITTLE = Effort(rounds=1, seconds=1, longest=1, warmup=0, idle=0.0)


def test_a_peer_that_cannot_is_noted_with_what_it_answered(tmp_path: Path) -> None:
    said: list[str] = []
    notes = measuring._Notes(say=said.append)
    measuring._workload(WORKLOADS[0], {"portkey": GONE}, LITTLE, tmp_path, notes)
    (refusal,) = notes.refusals
    assert (refusal.target, refusal.workload, notes.samples) == ("portkey", "plain-1", [])
    assert "portkey cannot: no whole answer: ConnectionRefusedError" in said[0]


@pytest.mark.processes
def test_a_peer_that_does_not_start_is_noted_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> NoReturn:
        raise BenchmarkFailed("it ended before it was ready: no licence")

    monkeypatch.setattr(nginx, "found", lambda program: None)
    monkeypatch.setattr(measuring, "ROWS", {**ROWS, "portkey": replace(ROWS["portkey"], start=never)})
    measured = measuring.measure(["direct", "portkey"], WORKLOADS[:1], LITTLE, tmp_path, print)
    assert {sample.target for sample in measured.samples} == {"direct"}
    assert [(refusal.target, refusal.workload) for refusal in measured.refusals] == [("portkey", "plain-1")]


def test_one_of_ours_that_cannot_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match="process, plain, 1 connection: no whole answer"):
        measuring._workload(WORKLOADS[0], {"process": GONE}, LITTLE, tmp_path, measuring._Notes(say=print))


def test_a_run_that_fails_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def phase(_names: object, workloads: list[Workload], _effort: object, _folder: object, notes: Any) -> None:
        if workloads[0].phase == "stream":
            raise BenchmarkFailed("memory: no receipt")
        notes.samples.append(a_sample("process"))

    monkeypatch.setattr(measuring, "_phase", phase)
    measured = measuring.measure(["process"], WORKLOADS, LITTLE, tmp_path, print)
    assert (measured.failed, len(measured.samples)) == ("memory: no receipt", 1)


def test_the_first_event_is_not_the_head_that_came_before() -> None:
    async def read() -> tuple[float, float]:
        order = load.Order(
            host="", port=0, shape="stream", pace="at_once", connections=1, seconds=9, warmup=0, max_requests=9,
            receipt=False, key="none",
        )  # fmt: skip
        caller = load.Caller(load.Tally(order=order, opened=time.perf_counter()), b"")
        caller.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        before = caller._event
        caller.data_received(b"e6\r\n" + stream_events()[0] + b"\r\n")
        return before, caller._event

    before, after = asyncio.run(read())
    assert before == 0 < after


def run_peers(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python("benchmarks.peers", *arguments), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.processes
def test_a_quick_run_measures_each_target_and_keeps_the_raw_figures(tmp_path: Path) -> None:
    out = tmp_path / "peers.json"
    done = run_peers("--quick", "--only", "direct,bare,memory", "--workloads", "plain-1,paced-1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    raw = json.loads(out.read_text())
    assert {(sample["workload"], sample["target"]) for sample in raw["samples"]} == {
        (workload, target) for workload in ("plain-1", "paced-1") for target in ("direct", "bare", "memory")
    }
    assert not any(sample["errors"] for sample in raw["samples"])
    assert raw["checked"]["memory"] > 1
    assert [target["name"] for target in raw["targets"]] == ["direct", "bare", "memory"]
    assert "first event p50" in done.stdout
    assert all(
        sample["first_event_p50_ms"] < sample["p50_ms"] > 400
        for sample in raw["samples"]
        if (sample["workload"], sample["target"]) == ("paced-1", "direct") and sample["requests"]
    )
    assert "/home" not in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--only", "nginx,fast"), "unknown target 'fast'; use some of direct, nginx"),
        (("--workloads", "fast"), "unknown workload 'fast'"),
        (("--rounds", "0"), "'0' is not a number of rounds"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: tuple[str, str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.peers import __main__ as command

    with pytest.raises(SystemExit):
        command.main(arguments)
    assert complaint in capsys.readouterr().err
