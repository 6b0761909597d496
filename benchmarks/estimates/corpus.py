"""The requests that are measured: texts of many kinds, as callers send them. Nothing is counted or estimated here.

The texts lie in ``corpus/KIND/``, frozen: a text that changes makes its kept counts wrong, and a test says so.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TEXTS: Final = Path(__file__).parent / "corpus"
PIECE: Final = 600
"""Characters of a small sample, from a text's middle."""

HELD_OUT: Final = "standard library"
"""The kind of texts that were not looked at when the estimator's constants were chosen."""
HELD_OUT_EVERY: Final = 12
HELD_OUT_SIZE: Final = 8000

_SHORT: Final = (
    "hi",
    "What's the capital of Australia?",
    "Fix the failing test in tests/test_orders.py and explain what was wrong.",
    "Summarize the attached notes in three bullet points. Keep names and dates.",
    "Translate to German: The meeting has been moved to Thursday at half past two.",
    "you are wrong, 17 * 23 is 391",
    "Write a haiku about the sea.",
    "continue",
)
_TOOLS: Final = (
    (
        "read_file",
        "Read a file of the repository.",
        {"path": "string", "first_line": "integer", "last_line": "integer"},
    ),
    ("run_command", "Run a shell command and return what it prints.", {"command": "string", "timeout": "number"}),
    ("search", "Search the repository for a regular expression.", {"pattern": "string", "glob": "string"}),
    ("apply_patch", "Apply a unified diff to the working tree.", {"patch": "string", "dry_run": "boolean"}),
    ("list_orders", "List a customer's orders, newest first.", {"customer_id": "string", "limit": "integer"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request. ``body`` is what the caller means; how it is spelled is ``spelled``'s matter."""

    kind: str
    name: str
    body: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Tell this sample from one with another text."""
        return hashlib.sha256(spelled(self.body)).hexdigest()[:16]


def spelled(body: Mapping[str, Any], *, escaped: bool = False) -> bytes:
    """Return a body's bytes: compact UTF-8, as openai-python, httpx and browsers write it.

    ``escaped``: every letter beyond ASCII by its number, and spaces behind the signs, as ``json.dumps`` and
    with it requests do.
    """
    if escaped:
        return json.dumps(body).encode()
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def samples() -> Iterator[Sample]:
    """Yield every request of the corpus, kind by kind."""
    for kind in sorted(path.name for path in TEXTS.iterdir()):
        for name, text in _texts(kind):
            yield _asked(kind, name, text)
            if len(text) > 2 * PIECE:
                middle = len(text) // 2
                yield _asked(kind, f"{name}, a piece", text[middle : middle + PIECE])
    for text in _SHORT:
        yield _asked("short", text, text)
    for count in (1, 3, 5):
        body = {"messages": [_said("user", "What did order 1042 cost?")], "tools": _tools(count)}
        yield Sample(kind="tools", name=f"{count}", body={"model": "auto", **body})
    for turns in (3, 10, 30, 90):
        yield Sample(kind="agent runs", name=f"{turns} turns", body=_run(turns))


def held_out() -> Iterator[Sample]:
    """Yield requests about modules of the running Python's standard library; they differ with its version."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.glob("*.py"))[::HELD_OUT_EVERY]:
        yield _asked(HELD_OUT, path.name, path.read_text(encoding="utf-8")[:HELD_OUT_SIZE])


def prompt_of(body: Mapping[str, Any]) -> tuple[Sequence[str], int]:
    """Return the texts that a model gets, and how many tokens of form are between them.

    Three for each message and three for the answer's beginning, as OpenAI's cookbook counts. How tools are
    written into a prompt is documented nowhere: they count as the JSON that they came as, and calls likewise.
    """
    texts: list[str] = []
    calls = 0
    for message in body["messages"]:
        texts.append(message["role"])
        texts.append(message.get("content") or "")
        for call in message.get("tool_calls", ()):
            calls += 1
            texts += [call["function"]["name"], call["function"]["arguments"]]
    if "tools" in body:
        texts.append(json.dumps(body["tools"], ensure_ascii=False, separators=(",", ":")))
    return texts, 3 * (len(body["messages"]) + calls) + 3


def _texts(kind: str) -> Iterator[tuple[str, str]]:
    for path in sorted((TEXTS / kind).iterdir()):
        yield path.name.removesuffix(".txt"), path.read_bytes().decode()


def _asked(kind: str, name: str, text: str) -> Sample:
    return Sample(kind=kind, name=name, body={"model": "auto", "messages": [_said("user", text)]})


def _said(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _tools(count: int) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": description,
                "parameters": {
                    "type": "object",
                    "properties": {
                        key: {"type": type_, "description": f"The {key.replace('_', ' ')}."}
                        for key, type_ in keys.items()
                    },
                    "required": [next(iter(keys))],
                    "additionalProperties": False,
                },
            },
        }
        for name, description, keys in _TOOLS[:count]
    ]


def _run(turns: int) -> dict[str, Any]:
    """Return an agent's run: a system prompt, tools, and calls whose results are code, diffs, logs and data."""
    results = [text for kind in ("code", "diff", "json", "logs", "markdown") for _, text in _texts(kind)]
    prose = dict(_texts("english"))
    messages = [_said("system", prose["relaying"][:3000]), _said("user", _SHORT[2])]
    for turn in range(turns):
        arguments = {"path": f"src/orders/part_{turn}.py", "first_line": 1, "last_line": 40 * turn + 1}
        call = {"id": f"call_{turn:04}Xq7Zt9", "type": "function"}
        function = {"name": "read_file", "arguments": json.dumps(arguments)}
        text = results[7 * turn % len(results)]
        messages += [
            {**_said("assistant", prose["letter"][turn : turn + 120]), "tool_calls": [{**call, "function": function}]},
            {"role": "tool", "tool_call_id": call["id"], "content": text[: 500 + 700 * (turn % 5)]},
        ]
    return {"model": "auto", "messages": messages, "tools": _tools(5), "stream": True}
