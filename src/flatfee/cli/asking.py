"""What the commands that ask a gateway share: their options, the prompt, and how failures are told.

Exit codes: 0 for an answer, 1 when the gateway could not give one, 2 when it was not even asked
because an argument or the environment is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from flatfee.cli.invoked import command
from flatfee.cli.show import one_line, print_receipt
from flatfee.client.sync import Client
from flatfee.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AuthenticationError,
    ConcurrencyLimitError,
    ConfigurationError,
    FlatfeeError,
)
from flatfee.receipt import Receipt
from flatfee.types.params import CompletionParams
from flatfee.wire import Task

PromptArgument = Annotated[str, typer.Argument(help="What to ask; '-' reads it from standard input.")]
ModelOption = Annotated[str, typer.Option("--model", help="auto, premium, economy, or an alias of the gateway's.")]
TaskOption = Annotated[Task | None, typer.Option("--task", help="What the request is for; 'auto' decides by it.")]
WorkflowOption = Annotated[str | None, typer.Option("--workflow", help="The agent run that the request belongs to.")]
MaxTokensOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="The longest answer, in tokens.")]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", help="The gateway. Default: FLATFEE_BASE_URL, else the hosted service.")
]

_CURES: Final[Mapping[type[APIError], str]] = {
    AuthenticationError: "The key is read from FLATFEE_API_KEY.",
    ConcurrencyLimitError: "Requests with the same --workflow share one slot.",
    APIConnectionError: "Check --base-url or FLATFEE_BASE_URL; '{flatfee} serve' starts a gateway here.",
}
"""What to do here about an error, beside what its message says."""


def read_prompt(argument: str) -> str:
    """Return the prompt; ``-`` stands for standard input.

    Raises:
        ConfigurationError: it is empty, or not UTF-8.
    """
    try:
        prompt = sys.stdin.read() if argument == "-" else argument
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"Standard input is not UTF-8: byte {error.start} is not valid.") from error
    if not prompt.strip():
        raise ConfigurationError("The prompt is empty; say what to ask, or pipe it in and pass '-'.")
    return prompt


def messages(prompt: str) -> list[dict[str, str]]:
    """Return the conversation that a prompt begins."""
    return [{"role": "user", "content": prompt}]


def params(task: Task | None, workflow: str | None, max_tokens: int | None) -> CompletionParams:
    """Return the parameters that were given on the command line."""
    given: CompletionParams = {"task": task, "workflow": workflow}
    if max_tokens is not None:
        given["max_completion_tokens"] = max_tokens
    return given


@contextmanager
def gateway(base_url: str | None, *, as_json: bool) -> Generator[Client]:
    """Yield a client. A failure inside is told on standard error, and ends the command.

    With ``as_json`` standard output gets one JSON object for a failure, too.
    """
    with failures_told(as_json=as_json), Client(base_url=base_url) as client:
        yield client


@contextmanager
def failures_told(*, as_json: bool) -> Generator[None]:
    """Tell a failure inside on standard error, with ``as_json`` on standard output as well, and end the command."""
    try:
        yield
    except ConfigurationError as error:
        _tell(error, as_json=as_json)
        raise typer.Exit(2) from error
    except FlatfeeError as error:
        _tell(error, as_json=as_json)
        raise typer.Exit(1) from error


def _tell(error: FlatfeeError, *, as_json: bool) -> None:
    receipt = error.receipt if isinstance(error, APIError) else None
    code = error.code if isinstance(error, APIError) else None
    cures = [cure.format(flatfee=command()) for kind, cure in _CURES.items() if isinstance(error, kind)]
    name = f"{type(error).__name__} ({code})" if code else type(error).__name__
    typer.echo(one_line(" ".join([f"{name}:", str(error), *cures])), err=True)
    if as_json:
        print_json({"error": _as_json(error, code), "receipt": receipt_json(receipt)})
    elif receipt is not None:
        print_receipt(Console(stderr=True), receipt)


def _as_json(error: FlatfeeError, code: str | None) -> dict[str, Any]:
    status = error.status_code if isinstance(error, APIStatusError) else None
    return {"name": type(error).__name__, "code": code, "status": status, "message": str(error)}


def receipt_json(receipt: Receipt | None) -> dict[str, Any] | None:
    """Return a receipt as it came over the wire."""
    return receipt.model_dump(mode="json", exclude_unset=True) if receipt is not None else None


def print_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to standard output, as ASCII: no terminal and no encoding is upset by it."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()
