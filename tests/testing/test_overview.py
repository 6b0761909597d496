"""Every line of code in the overview's table of what can be brought about does so much as run, and says what exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import flatfee
import flatfee.testing
from flatfee.testing import Options, running_gateway

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "testing.md"
ROWS = re.findall(r"^\| ([^|`]+) \| (.+) \|$", GUIDE.read_text("utf-8").partition("| what happens |")[2], re.MULTILINE)
ROWS = ROWS[1 : next(number for number, row in enumerate(ROWS) if row[0] == "it asked what it should") + 1]
OPTIONS = {field.name for field in fields(Options)}
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(("happens", "cell"), ROWS, ids=[row[0] for row in ROWS])
def test_line_of_the_table_runs(happens: str, cell: str) -> None:
    with running_gateway() as gateway, gateway.client(max_retries=0) as client:
        client.chat.completions.create(model="auto", messages=HELLO)
        names = {**vars(flatfee.testing), "gateway": gateway}
        for code in re.findall(r"`(.+?)`", cell):
            if option := re.fullmatch(r"(\w+)=\S+", code):
                assert option[1] in OPTIONS | {"times", "turn"}
            elif code != "turn":
                exec(f"{code} pass" if code.endswith(":") else code, names)


@pytest.mark.parametrize(
    ("happens", "failure"),
    [
        ("nothing goes on after it", flatfee.BillingError),
        ("the account is suspended", flatfee.BillingError),
        ("the third workflow is refused", flatfee.ConcurrencyLimitError),
        ("all of them are", flatfee.FallbackExhausted),
        ("an answer never comes", flatfee.APITimeoutError),
        ("premium is used up", "continuation"),
        ("the bill is not paid", "continuation"),
        ("one provider is down", "fallback"),
        ("a provider is silent, or slow", "fallback"),
        ("a provider is busy", "fallback"),
        ("an answer is cut at its length", "premium"),
    ],
)
def test_line_of_the_table_brings_it_about(happens: str, failure: type[Exception] | str) -> None:
    code = next(code for code in re.findall(r"`(.+?)`", dict(ROWS)[happens]) if code.startswith("gateway."))
    timeout = 0.2 if failure is flatfee.APITimeoutError else 60
    with running_gateway(concurrent_workflows=2) as gateway, gateway.client(max_retries=0, timeout=timeout) as client:
        exec(code, {**vars(flatfee.testing), "gateway": gateway})
        if isinstance(failure, str):
            receipt = client.chat.completions.create(model="premium", messages=HELLO).receipt
            assert receipt is not None
            assert receipt.lane == failure
        else:
            with pytest.raises(failure):
                client.chat.completions.create(model="premium", messages=HELLO)
