"""The report of the clients, and what the processes that are measured may import."""

import os
import subprocess
import sys

from benchmarks.alone import hidden, required
from benchmarks.children import ROOT
from benchmarks.client_child import HIDDEN_ENV
from benchmarks.client_cost import ClientSample
from benchmarks.contenders import CONTENDERS

from benchmarks import report


def test_a_client_sees_what_it_requires_and_no_more() -> None:
    assert {"flatfee", "httpx", "pydantic", "tenacity", "anyio", "certifi"} <= required("flatfee")
    assert {"rich", "trio", "aiohttp", "openai", "httpx2"} <= set(hidden("flatfee"))
    assert not {"httpx", "pydantic_core", "flatfee", "typing_extensions"} & set(hidden("flatfee"))


def test_every_contender_is_installed() -> None:
    assert all(contender.distribution in required(contender.distribution) for contender in CONTENDERS.values())


def test_a_hidden_module_cannot_be_imported() -> None:
    code = "import sys; from benchmarks.client_child import _Hider; sys.meta_path.insert(0, _Hider); import rich.text"
    env = {**os.environ, HIDDEN_ENV: "rich"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "No module named 'rich'" in done.stderr


def test_the_table_holds_each_figure_against_the_first_client_and_the_last() -> None:
    samples = [
        ClientSample(client="raw", round=0, figures={"start_ms": 50.0, "call_cpu_us": 400.0}),
        ClientSample(client="ours", round=0, figures={"start_ms": 100.0, "call_cpu_us": 440.0}),
        ClientSample(client="theirs", round=0, figures={"start_ms": 200.0, "call_cpu_us": 880.0}),
        ClientSample(client="ours", round=0, figures={"crowd_s": 2.0}),
        ClientSample(client="theirs", round=0, figures={"crowd_s": 8.0}),
    ]
    ours = next(line for line in report.client_table(samples).splitlines() if line.startswith("ours"))
    assert ours.split() == ["ours", "100", "(2.00,", "0.50)", "–", "–", "440", "(1.10,", "0.50)", "–", "2.00"]
