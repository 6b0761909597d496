"""Write the reference pages that follow from the code, or check that they are current.

    python scripts/generate_docs.py            write them
    python scripts/generate_docs.py --check    change nothing; fail and name the pages that are stale

Each page is a function that returns its text. A new lane, reason, state or outcome without a
sentence in the tables below is a ``KeyError`` here, so the pages cannot fall behind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from flatfee.errors import CODE_CLASSES
from flatfee.server.admin.openapi import document
from flatfee.server.admin.table import ENDPOINTS, ROOT
from flatfee.server.providers.rows import ROWS, Row
from flatfee.wire import (
    ERRORS,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    AttemptOutcome,
    ErrorCode,
    Lane,
    Reason,
    ReceiptState,
    Task,
    error_body,
)

_Name = TypeVar("_Name", bound=str)

DOCS: Final = Path(__file__).parents[1] / "docs"
NOTICE: Final = "<!-- Written by scripts/generate_docs.py; change the code, then run `make docs`. -->"

LANES: Final[Mapping[Lane, tuple[str, str]]] = {
    Lane.PREMIUM: ("A premium route served it, as first choice.", "yes"),
    Lane.BUDGET: ("Fair-use remained, but the policy or the caller chose an economy route.", "no"),
    Lane.CONTINUATION: (
        "Premium was wanted, but fair-use or the billing state forbids it; economy keeps the run moving.",
        "no; has a limit of its own",
    ),
    Lane.FALLBACK: (
        "The first choice failed or was unhealthy, and another route answered.",
        "if the route that answered is premium",
    ),
}

REASONS: Final[Mapping[Reason, str]] = {
    Reason.REQUESTED: "The caller named the tier.",
    Reason.FRAGILE_REASONING: "The task or the reasoning effort asks for careful work.",
    Reason.SMALL_TASK: "The task is small enough for economy.",
    Reason.CONTEXT_SIZE: "The context is too large to spend premium on.",
    Reason.DEFAULT: "No rule said otherwise, or a rule of the operator's gave no closer reason.",
    Reason.WORKFLOW_AFFINITY: "A tool loop stays on the route where it began.",
    Reason.FAIR_USE_EXHAUSTED: "What is left of fair-use does not cover the request.",
    Reason.BILLING_STATE: "The account's billing state allows no premium.",
    Reason.PROVIDER_TIMEOUT: "The first choice was silent for too long.",
    Reason.PROVIDER_ERROR: "The first choice failed, or its model cannot do what was asked for.",
    Reason.PROVIDER_UNAVAILABLE: "The first choice could not be reached, or had failed too often to be asked.",
    Reason.PROVIDER_RATE_LIMITED: "The first choice refused for its own rate limit.",
    Reason.CONTEXT_OVERFLOW: "The first choice could not hold the context.",
}

STATES: Final[Mapping[ReceiptState, str]] = {
    ReceiptState.IN_FLIGHT: "The answer is still coming.",
    ReceiptState.SETTLED: "Final, from the provider's own token counts.",
    ReceiptState.ESTIMATED: "Final, but the provider told no usage or the caller left: the figures are the gateway's.",
    ReceiptState.REFUSED: "Nothing was served and nothing was charged.",
}

OUTCOMES: Final[Mapping[AttemptOutcome, str]] = {
    AttemptOutcome.OK: "It answered.",
    AttemptOutcome.TIMEOUT: "It was silent until a time limit.",
    AttemptOutcome.ERROR: "It answered with an error, broke off, or sent what cannot be read.",
    AttemptOutcome.RATE_LIMITED: "It refused for its own rate limit.",
    AttemptOutcome.UNAVAILABLE: "It could not be reached, or was not asked because it had failed too often.",
    AttemptOutcome.CONTEXT_OVERFLOW: "It could not hold the context.",
    AttemptOutcome.REFUSED: "It refused the request. Another is asked only if it says that its model cannot do that.",
    AttemptOutcome.CANCELLED: "The caller left or the deadline passed while it worked.",
    AttemptOutcome.DIVERGED: "It was to go on with an answer that broke off, and gave another one.",
}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def meanings(head: str, members: Iterable[_Name], texts: Mapping[_Name, str]) -> str:
    """Render one row for every member; a member without a text is a ``KeyError``."""
    return table((head, "meaning"), ((f"`{member}`", texts[member]) for member in members))


def wire_page() -> str:
    """Return the page of everything both sides agree on."""
    errors = (
        (
            str(rule.status),
            f"`{code}`",
            "yes" if rule.retryable else "no",
            f"[`{CODE_CLASSES[code].__name__}`](sdk.md#flatfee.errors.{CODE_CLASSES[code].__name__})",
            rule.when,
        )
        for code, rule in ERRORS.items()
    )
    example = error_body(
        ErrorCode.MODEL_NOT_FOUND,
        "There is no model 'gpt-9'; use one of: auto, premium, economy.",
        param="model",
        receipt={"request_id": "req_01K9YV6M2Q8R4T6W8Y0ABCDEFG", "state": ReceiptState.REFUSED},
    )
    sections = {
        "Headers of a request": meanings("header", REQUEST_HEADERS, REQUEST_HEADERS),
        "Headers of a response": meanings("header", RESPONSE_HEADERS, RESPONSE_HEADERS),
        "Lanes": table(("lane", "meaning", "charged"), ((f"`{lane}`", *LANES[lane]) for lane in Lane)),
        "Reasons": "On the fallback lane the reason tells why the first choice was left.\n\n"
        + meanings("reason", Reason, REASONS),
        "States of a receipt": meanings("state", ReceiptState, STATES),
        "Outcomes of an attempt": meanings("outcome", AttemptOutcome, OUTCOMES),
        "Tasks": f"Values of `x-flatfee-task`: {', '.join(f'`{task}`' for task in Task)}.",
        "Errors": "Decide by `code`, then by status, never by the message. *Retry* is the value of `x-should-retry`;\n"
        "*exception* is what [the SDK](sdk.md) raises.\n\n"
        + table(("status", "code", "retry", "exception", "when"), errors)
        + f"\n\nThe envelope, with the receipt beside the error:\n\n```json\n{json.dumps(example, indent=2)}\n```",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return (
        f"# The wire\n\n{NOTICE}\n\nHeader names, lanes, reasons and error codes, as `flatfee.wire` states them\n"
        "for both sides. Clients must accept lanes, reasons, states and codes that they do not know yet.\n\n"
        "With the [HTTP API](http-api.md) this is what client and gateway agreed on: the *contract*, where code\n"
        "and tests speak of one.\n\n"
        f"{body}\n"
    )


_HELP: Final = """\
import json
import typer
from flatfee.cli.app import app

def pages(command, name, parent=None):
    context = typer.Context(command, info_name=name, parent=parent)
    yield context.command_path, command.get_help(context)
    for inner in getattr(command, "commands", {}):
        yield from pages(command.commands[inner], inner, context)

print(json.dumps(list(pages(typer.main.get_command(app), "flatfee"))))
"""


def cli_page() -> str:
    """Return the page with the help text of every command, as a terminal without colours shows it."""
    sections = (f"{'#' * max(2, len(title.split()))} `{title}`\n\n```text\n{text}\n```" for title, text in _help())
    body = "\n\n".join(sections)
    return f"# Command line\n\n{NOTICE}\n\nComes with the `server` extra: `pip install '.[server]'`.\n\n{body}\n"


def _help() -> Iterable[tuple[str, str]]:
    """Yield name and help text of every command, groups before what is in them."""
    plain = {"TYPER_USE_RICH": "0", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "80"}
    line = [sys.executable, "-c", _HELP]
    done = subprocess.run(line, env=os.environ | plain, capture_output=True, text=True, check=True)
    for title, text in json.loads(done.stdout):
        yield title, "\n".join(line.rstrip() for line in text.strip().splitlines())


ADMIN_INTRODUCTION: Final = """\
For operators: accounts, projects, keys, receipts and the audit log, under `/admin/v1` of every gateway. How they
belong together is in [accounts and keys](../concepts/accounts.md). The same as an OpenAPI 3.1 document is at
`GET /admin/v1/openapi.json`, without a key.

Every other request needs `Authorization: Bearer KEY` with an admin key, or with the secret that the environment
variable of [`[server] admin_key_env`](../guides/configuration.md#server) held when the gateway started. Keys of the
model API are 403 `permission_denied` here, as admin keys are there. Errors have [the one envelope](wire.md#errors).

Bodies are JSON objects of at most 64 KiB. A member or a query parameter that an endpoint does not know is 400, and
named. A `PATCH` changes what it names and no more; `null` is a value. Times are RFC 3339 in UTC, to the second.
Lists are `{"object": "list", "data": […], "has_more": false}`, in pages of `limit` (1 to 100, 20 unless told
otherwise) that go on `after` the id, request id or name of the last entry."""


ABSENT_ANSWER: Final = "may be absent"


def admin_page() -> str:
    """Return the page of the admin API: its table of endpoints, and what they take and answer."""
    told = json.loads(document(ENDPOINTS, ROOT))
    schemas = told["components"]["schemas"]
    parts: dict[str, list[str]] = {"takes": [], "answers": []}
    rows = []
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            query = ", ".join(f"`{one['name']}`" for one in operation["parameters"] if one["in"] == "query")
            body = _named(operation.get("requestBody", {}), parts["takes"])
            status, answer = next((code, told) for code, told in operation["responses"].items() if code < "300")
            shape = _named(answer, parts["answers"])
            rows.append((f"`{method.upper()} {path}`", operation["summary"], query or body, f"{status} {shape}"))
    sections = {
        "Endpoints": table(("endpoint", "what", "query or body", "answer"), rows),
        "Bodies": _shapes(parts["takes"], schemas, "need not be sent"),
        "Answers": _shapes(parts["answers"], schemas, ABSENT_ANSWER),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# Admin API\n\n{NOTICE}\n\n{ADMIN_INTRODUCTION}\n\n{body}\n"


def _named(content: Mapping[str, Any], found: list[str]) -> str:
    """Return a link to the section of a body or an answer, and note its name; a list is named by its entries."""
    if not content:
        return ""
    name = content["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    entry = name.removeprefix("ListOf_").removesuffix("_")
    if entry not in found:
        found.append(entry)
    return f"{'list of ' if entry != name else ''}[{entry}](#{entry.lower()})"


def _shapes(names: Sequence[str], schemas: Mapping[str, Any], absent: str) -> str:
    """Return a section for each shape; one that has all of an earlier one's members names only what it adds."""
    texts = []
    for index, name in enumerate(names):
        schema = schemas[name]
        members = dict(schema["properties"])
        text = " ".join(schema["description"].split()).replace("``", "`")
        earlier = [other for other in names[:index] if schemas[other]["properties"].items() <= members.items()]
        if earlier:
            text += f" All of [{earlier[-1]}](#{earlier[-1].lower()}), and:"
            members = {key: told for key, told in members.items() if key not in schemas[earlier[-1]]["properties"]}
        required = schema.get("required", [])
        if absent == ABSENT_ANSWER:  # what a member is unless it is sent, is of no use to who reads it
            members = {key: {**told, "default": None} for key, told in members.items()}
        rows = ((f"`{key}`", _kind(told, schemas), "" if key in required else absent) for key, told in members.items())
        texts.append(f"### {name}\n\n{text}\n\n{table(('member', 'value', ''), rows)}")
    return "\n\n".join(texts)


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """Say in words what a schema allows."""
    default = f"; `{json.dumps(schema['default'])}` unless sent" if schema.get("default") is not None else ""
    if "$ref" in schema:
        return _kind(schemas[schema["$ref"].rpartition("/")[2]], schemas) + default
    if "anyOf" in schema:
        kinds = [_kind(kind, schemas) for kind in schema["anyOf"]]
        # An enumeration that is open to other values is a string to who reads it.
        return " or ".join(kinds if "string" not in kinds else [kind for kind in kinds if not kind.startswith("`")])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum") or [schema["const"]]
        return ", ".join(f"`{json.dumps(value)}`" for value in values) + default
    if "properties" in schema:
        return f"object of {', '.join(f'`{member}`' for member in schema['properties'])}"
    if schema.get("type") == "array":
        items = _kind(schema["items"], schemas)
        return f"list of {items if ' ' in items else items + 's'}"
    return _plain(schema) + default


def _plain(schema: Mapping[str, Any]) -> str:
    kind = str(schema.get("format", schema.get("type", "any"))).replace("date-time", "time")
    low, high = schema.get("minimum"), schema.get("maximum")
    above = f", above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else ""
    if low is not None and high is not None:
        return f"{kind}, {low} to {high}"
    return kind + above + (f", at most {high}" if high is not None else "")


PROVIDERS_INTRODUCTION: Final = """\
What `kind` of a [`[[providers]]`](../guides/configuration.md#providers) may be, with the address and the key's variable
that hold unless the file names others. How to choose and change one is in [Providers](../guides/providers.md).

Each service is a row of `flatfee.server.providers.rows`: data, with the page on which each quirk was read. A test
drives every row through the whole gateway against a fake that has the service's ways."""


def providers_page() -> str:
    """Return the page of the services that have a row: where they are, and what they differ in."""
    rows = {kind: row for kind, row in ROWS.items() if row.source}
    known = (
        (f"[`{kind}`](#{kind})", row.title, f"`{row.base_url}`" if row.base_url else "yours", _key(row))
        for kind, row in rows.items()
    )
    sections = (f"## {kind}\n\n{_service(row)}" for kind, row in rows.items())
    index = table(("kind", "service", "address", "variable of the key"), known)
    return f"# Services\n\n{NOTICE}\n\n{PROVIDERS_INTRODUCTION}\n\n{index}\n\n" + "\n\n".join(sections) + "\n"


def _key(row: Row) -> str:
    if row.key_env is None:
        return "none"
    return f"`{row.key_env}`" + ("" if row.needs_key else ", if there is one")


def _service(row: Row) -> str:
    example = f" Its `base_url` is of the form `{row.example}`." if row.example else ""
    quirks = (
        (_said(quirk.field, row) if quirk.field else "", quirk.says, f"[read here]({quirk.source})")
        for quirk in row.quirks
    )
    usual = "It is asked as OpenAI's API is." if row.api == "openai" else "Its API is another, and is translated."
    told = table(("dialect", "because", "source"), quirks) if row.quirks else usual
    return f"[{row.title.partition(';')[0]}]({row.source}).{example}\n\n{told}"


def _said(field: str, row: Row) -> str:
    """Return what a row says of a field, as TOML has it."""
    value = row.dialect.model_dump(mode="json")[field]
    if isinstance(value, dict):
        return f"`{field} = {{{', '.join(f'{name} = {json.dumps(known)}' for name, known in value.items())}}}`"
    return f"`{field} = {json.dumps(sorted(value) if isinstance(value, list) else value)}`"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/wire.md": wire_page,
    "reference/admin-api.md": admin_page,
    "reference/cli.md": cli_page,
    "reference/providers.md": providers_page,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check every generated page; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated reference pages.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a page is stale")
    check = parser.parse_args(arguments).check
    pages = {DOCS / name: page() for name, page in PAGES.items()}
    stale = {path: text for path, text in pages.items() if not _is_current(path, text)}
    for path, text in stale.items():
        if check:
            print(f"{path.name} is stale; run: make docs", file=sys.stderr)
        else:
            path.write_text(text, "utf-8")
            print(f"wrote {path.name}")
    return 1 if check and stale else 0


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
