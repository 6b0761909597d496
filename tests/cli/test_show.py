"""What is shown of receipts and plans, the odd ones too."""

from __future__ import annotations

import io

from rich.console import Console

from flatfee import Compaction, FairUse, Receipt, ReceiptState, TokenUsage
from flatfee.cli.show import lane_text, one_line, print_receipt, safe


def shown(receipt: Receipt) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_receipt(console, receipt)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_was_not_told_is_not_shown() -> None:
    told = shown(Receipt(request_id="req_1", state=ReceiptState.REFUSED))
    assert told.split() == ["Refused.", "request", "req_1"]


def test_an_estimate_is_called_one() -> None:
    use = FairUse(charged=1200, remaining=5)
    told = shown(Receipt(lane="premium", state=ReceiptState.ESTIMATED, fair_use=use))
    assert "about 1,200" in told
    assert "fair-use left  5" in told


def test_cached_tokens_are_told_where_there_are_some() -> None:
    usage = TokenUsage(prompt_tokens=2000, completion_tokens=3, cached_tokens=1500)
    assert "2,000 in (1,500 cached), 3 out" in shown(Receipt(usage=usage))


def test_what_was_left_out_of_the_context_is_told() -> None:
    left_out = Compaction(saved_tokens=51234, prompt_tokens=112000, messages=40)
    told = shown(Receipt(lane="budget", compaction=left_out))
    assert "about 51,234 of 112,000 tokens, in old tool results" in told
    assert "left out" not in shown(Receipt(lane="budget", compaction=Compaction()))


def test_a_lane_that_is_not_known_yet_is_shown_as_it_came() -> None:
    told = shown(Receipt(lane="express", reason="full_moon"))
    assert "express" in told
    assert "full moon" in told


def test_no_lane_is_a_dash() -> None:
    assert lane_text(None).plain == "-"


def test_what_looks_like_markup_is_text() -> None:
    assert "[bold]x[/bold]" in shown(Receipt(route="[bold]x[/bold]", lane="premium"))


def test_control_characters_are_replaced_and_line_breaks_kept() -> None:
    assert safe("a\x1b[31m\n\tb\x85") == "a\ufffd[31m\n\tb\ufffd"
    assert safe("naïve – 日本") == "naïve – 日本"
    assert one_line("a\n  b\x07") == "a b\ufffd"
