"""Every example runs as it stands, against a gateway with the demonstration's configuration."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatfee.cli.demo.gateway import demo_text, running_gateway

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SOURCES = str(ROOT / "src")

SHOWN = {
    "quickstart.py": (
        r"This is sim-large",
        r"Served on the premium lane .* because the task needs careful reasoning",
        r"lane: premium \| fair-use left: \d+",
        r"used in this window: [1-9]\d* of 100000",
    ),
    "receipts.py": (
        r"^lane     reason             model      requests  units  tokens$",
        r"^premium  fragile_reasoning  sim-large         3  +\d+  +\d+$",
        r"^4 requests in \d+\.\d s, \d+ units charged, [\d,]+ left of fair-use$",
        r"^planning alone: [1-9]\d* units$",
        r"^last receipt: Served on the (premium|budget) lane",
        r"^left: \d+ of 100000$",
    ),
    "streaming.py": (
        r"^lane: premium \| served by: sim-premium$",
        r"You said: Explain event loops in one paragraph\.",
        r"Served on the premium lane by sim-large .* units charged",
    ),
    "errors.py": (
        r"a model that does not exist:\n  NotFoundError \(model_not_found\): .* economy\. \[req_\w{26}\]",
        r"more than is left of fair-use:\n  BillingError \(fair_use_exhausted\): 100000 of 100000 fair-use units",
        r"too many agent runs at once:\n  ConcurrencyLimitError: wait [1-9][\d.]* s",
        r"any model:\n  This is sim-",
    ),
    "events.py": (
        r"^lane: premium \| served by: sim-premium$",
        r"^so far: \{'summary': ",
        r"^whole: summary='.*' problems=\[.*\] score=\d+$",
        r"^Review with a score of \d+$",
        r"Served on the premium lane by sim-large .* units charged",
    ),
    "openai_python.py": (
        r"This is sim-large",
        r"lane: premium \| charged: [1-9]",
        r"openai\.NotFoundError: model_not_found",
    ),
    "tools.py": (
        r"flights\(\{\"destination\":\"text\"\}\) -> \[\{\"to\":\"text\",\"nights\":2,\"price\":140\}\]",
        r"trip: destination='text' nights=1 reasons=\[\]",
        r"step 1: premium lane, fragile_reasoning",
        r"charged in all: [1-9]\d* units",
    ),
    "async_agents.py": (
        r"agent-0: plan on premium, edit on premium, summarize on budget",
        r"agent-2: plan on premium",
        r"workflows still holding a slot: 0",
        r"req_\w{26} budget small_task",
    ),
    "swarm.py": (
        r"without pacing: ([4-9]|1\d) of 20 agents",
        r"with pacing: 20 of 20 agents",
    ),
}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start ``flatfee serve`` as a newcomer would; yield the environment that its callers need."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLATFEE_")}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flatfee", "serve", "--port", "0"],
            cwd=tmp_path,
            env=own | {"PYTHONPATH": SOURCES},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout
    watchdog = threading.Timer(100, process.kill)  # a line that never comes must fail the test, not hang it
    watchdog.start()
    try:
        shown = "".join(itertools.takewhile(lambda line: "curl" not in line, process.stdout))
        watchdog.cancel()
        url = re.search(r"ready on (\S+)", shown)
        key = re.search(r"ff_proj_\w{49}", shown)
        assert url, (tmp_path / "log").read_text()
        assert key, shown
        yield own | {"PYTHONPATH": SOURCES, "FLATFEE_BASE_URL": url[1], "FLATFEE_API_KEY": key[0]}
    finally:
        watchdog.cancel()
        process.terminate()
        process.stdout.close()
        process.wait(60)


def test_every_example_is_run() -> None:
    assert sorted(SHOWN) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_example_shows_what_it_says(name: str, gateway: dict[str, str], tmp_path: Path) -> None:
    shown = run(name, gateway, tmp_path)
    for pattern in SHOWN[name]:
        assert re.search(pattern, shown, re.MULTILINE), f"{pattern}\n{shown}"


def test_errors_example_lists_what_was_tried_when_every_route_fails(tmp_path: Path) -> None:
    with running_gateway(demo_text()) as failing:
        failing.fail("north")
        failing.fail("south")
        env = os.environ | {"PYTHONPATH": SOURCES, "FLATFEE_BASE_URL": failing.url, "FLATFEE_API_KEY": failing.key}
        shown = run("errors.py", env, tmp_path)
    assert re.search(r"any model:\n  FallbackExhausted: tried north-\w+ \(error\), .*south-\w+ \(error\)", shown), shown


def run(name: str, env: dict[str, str], cwd: Path) -> str:
    """Run an example and return what it printed; it must end well and without a warning."""
    line = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout
