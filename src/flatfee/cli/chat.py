"""``flatfee chat``: one question, the answer as it comes, and its receipt."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from flatfee.cli.asking import (
    BaseUrlOption,
    MaxTokensOption,
    ModelOption,
    PromptArgument,
    TaskOption,
    WorkflowOption,
    gateway,
    messages,
    params,
    print_json,
    read_prompt,
    receipt_json,
)
from flatfee.cli.show import print_receipt, safe
from flatfee.client.stream import Stream


def chat(
    prompt: PromptArgument,
    model: ModelOption = "auto",
    task: TaskOption = None,
    workflow: WorkflowOption = None,
    max_tokens: MaxTokensOption = None,
    base_url: BaseUrlOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object instead: content, finish_reason, receipt.")
    ] = False,
) -> None:
    """Ask, and watch the answer come. The answer goes to standard output, its receipt to standard error.

    The key is read from FLATFEE_API_KEY. Exits with 1 if there was no whole answer, with 2 if an
    argument or the environment is wrong.
    """
    with gateway(base_url, as_json=as_json) as client:
        asked = messages(read_prompt(prompt))
        options = params(task, workflow, max_tokens)
        with client.chat.completions.create(messages=asked, model=model, stream=True, **options) as stream:
            content, finish_reason = _follow(stream, quiet=as_json)
        receipt = stream.receipt
    if as_json:
        print_json({"content": content, "finish_reason": finish_reason, "receipt": receipt_json(receipt)})
    elif receipt is not None:
        console = Console(stderr=True)
        console.print()
        print_receipt(console, receipt)


def _follow(stream: Stream, *, quiet: bool) -> tuple[str, str | None]:
    """Return text and finish reason of a stream, shown piece by piece unless ``quiet``."""
    pieces: list[str] = []
    finish_reason: str | None = None
    try:
        for chunk in stream:
            for choice in chunk.choices:
                finish_reason = choice.finish_reason or finish_reason
                if piece := choice.delta.content or choice.delta.refusal:
                    pieces.append(piece)
                    if not quiet:
                        _write(piece)
    finally:
        if pieces and not quiet and not pieces[-1].endswith("\n"):
            _write("\n")
    return "".join(pieces), finish_reason


def _write(text: str) -> None:
    """Show a piece at once. A terminal is not to be steered by what a model says; a pipe gets it as it is."""
    sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
