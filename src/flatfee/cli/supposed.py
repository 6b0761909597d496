"""Options by which a command line supposes an account, its routes and the time. Nothing is done with them here."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from flatfee.wire import Billing

_PANEL: Final = "What is supposed, with --config"


def _option(name: str, words: str, **more: Any) -> Any:
    return typer.Option(name, help=words, rich_help_panel=_PANEL, **more)


AccountOption = Annotated[str | None, _option("--account", "Whose request it is. Default: the file's, if it is one.")]
ProjectOption = Annotated[str | None, _option("--project", "The key's project. Default: the account's, if it is one.")]
PlanOption = Annotated[str | None, _option("--plan", "The account's plan. Default: as the file has it.")]
BillingOption = Annotated[Billing | None, _option("--billing", "Default: as the file has it.")]
UsedOption = Annotated[int | None, _option("--used", "Units of fair-use that are used. Default: none.", min=0)]
LeftOption = Annotated[float | None, _option("--left", "Or what is left, as a share: 0.1.", min=0, max=1)]
ContinuationUsedOption = Annotated[
    int | None, _option("--continuation-used", "Units of continuation's limit that are used.", min=0)
]
DownOption = Annotated[
    list[str] | None, _option("--down", "A route whose circuit is open; may be given several times.")
]
AtOption = Annotated[str | None, _option("--at", "When, such as 2026-11-28T23:00 (the policy's time). Default: now.")]
ToolLoopOption = Annotated[str | None, _option("--tool-loop-route", "The route on which a tool loop is open.")]
