"""The published error of token estimates: that it is the estimator's of today, and within what is promised."""

import json
from dataclasses import replace

import pytest
from benchmarks.estimates.__main__ import COUNTS, PAGE
from benchmarks.estimates.corpus import Sample, samples
from benchmarks.estimates.report import RARE, RECONSTRUCTED, errors, estimated, quarter, spread, tables

RESULT = json.loads(COUNTS.read_text(encoding="utf-8"))


def test_the_page_holds_what_the_estimator_of_today_comes_to() -> None:
    assert tables(RESULT) in PAGE.read_text(encoding="utf-8"), "run 'make estimates'"


def test_the_page_names_what_counted() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, package in RESULT["tokenisers"].items():
        assert f"| {name} | `{package}` |" in page


def test_estimates_of_ordinary_text_lean_a_little_above() -> None:
    found = errors(RESULT["samples"], estimated, samples())
    ordinary = spread(error for error in found if error.kind not in RARE and error.tokeniser not in RECONSTRUCTED)
    assert 0 <= ordinary.middle <= 0.10
    assert ordinary.low >= -0.15
    assert ordinary.high <= 0.30


def test_with_the_factor_that_the_page_names_claude_is_met_as_well_as_the_page_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    claude = [error for error in errors(RESULT["samples"], estimated, samples()) if error.tokeniser == "Claude 4.7 on"]
    found = spread(replace(error, share=1.3 * (1 + error.share) - 1) for error in claude if error.kind not in RARE)
    assert "token_factor = 1.3" in page
    assert f"median of −{-found.middle:.0%} of what" in page.replace(" %", "%")
    assert f"at less than\n−{-found.low:.0%}." in page.replace(" %", "%")


def test_no_text_is_estimated_at_less_than_half_of_what_a_published_tokeniser_counts() -> None:
    """Save Hebrew by Llama 3's."""
    found = errors(RESULT["samples"], estimated, samples())
    assert all(error.share > -0.4 for error in found if error.kind != "arabic" and error.tokeniser not in RECONSTRUCTED)


def test_a_quarter_of_the_bytes_is_far_below_for_data_and_logs() -> None:
    found = errors(RESULT["samples"], quarter, samples())
    assert spread(error for error in found if error.kind in {"encoded", "logs"}).middle < -0.4


def test_a_text_that_changed_is_not_judged_by_its_old_counts() -> None:
    row = {"kind": "short", "name": "hi", "digest": "0", "counts": {}}
    sample = Sample(kind="short", name="hi", body={"messages": []})
    with pytest.raises(ValueError, match="short/hi is not what was counted; run 'make estimates'"):
        errors([row], estimated, [sample])
