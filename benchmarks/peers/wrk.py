"""wrk, the load generator: its script, its run, and what it tells. Judges nothing.

One thread of wrk asks for more than any of the gateways answers, at a few microseconds a request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.children import BenchmarkFailed, Cores, run
from benchmarks.peers.nginx import needed

PATH: Final = "/v1/chat/completions"
_MARK: Final = "told: "
_TIMEOUT: Final = 60
"""Seconds that one answer may take before wrk counts it as an error."""

_SCRIPT: Final = """\
local file = io.open({body}, "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{mark}{{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "connect": %d, "read": %d, ' ..
      '"write": %d, "timeout": %d, "status": %d}}\\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was seen in one run; ``errors`` has only the kinds that occurred. wrk knows nothing of events."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: Mapping[str, int]
    first_event_p50_ms: float | None = None
    first_event_p99_ms: float | None = None

    @property
    def per_second(self) -> float:
        """Whole answers for each second."""
        return self.requests / self.seconds if self.seconds else 0.0


def script(body: Path, headers: Sequence[str]) -> str:
    """Return the Lua script that sends the file ``body`` with these header lines, and tells the result as JSON."""
    lines = [line.partition(": ") for line in headers]
    fields = "\n".join(f"wrk.headers[{_quoted(name)}] = {_quoted(value)}" for name, _, value in lines)
    return _SCRIPT.format(body=_quoted(str(body)), headers=fields, mark=_MARK)


def parse(printed: str) -> Told:
    """Return what a run of the script told.

    Raises:
        BenchmarkFailed: it told nothing.
    """
    line = next((line for line in printed.splitlines() if line.startswith(_MARK)), None)
    if line is None:
        raise BenchmarkFailed(f"wrk told no result: {printed.strip()[-300:] or 'it said nothing'}")
    told = json.loads(line.removeprefix(_MARK))
    kinds = ("connect", "read", "write", "timeout", "status")
    return Told(
        requests=told["requests"],
        seconds=told["duration_us"] / 1e6,
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        errors={kind: told[kind] for kind in kinds if told[kind]},
    )


def drive(url: str, script_file: Path, *, connections: int, seconds: float, core: Cores) -> Told:
    """Ask on so many connections for so long; answers that are not whole at the end are not counted.

    Raises:
        BenchmarkFailed: wrk is not here, or did not run.
    """
    options = ["--threads", "1", "--connections", str(connections), "--timeout", f"{_TIMEOUT}s"]
    whole = max(1, round(seconds))  # it counts in whole seconds
    command = [needed("wrk"), *options, "--duration", f"{whole}s", "--script", str(script_file), f"{url}{PATH}"]
    return parse(run(command, core=core, timeout=whole + 30))


def _quoted(text: str) -> str:
    """Return a Lua string: JSON's escapes of printable text are Lua's as well.

    Raises:
        ValueError: the text holds what a header may not.
    """
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{text!r} is not printable ASCII")
    return json.dumps(text)
