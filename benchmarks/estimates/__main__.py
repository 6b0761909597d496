"""Compares the counts that were kept with what the gateway estimates now, and writes the tables into the docs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

from benchmarks.estimates.corpus import held_out
from benchmarks.estimates.report import Estimator, errors, estimated, quarter, tables

ROOT: Final = Path(__file__).parents[2]
COUNTS: Final = Path(__file__).with_name("counts.json")
PAGE: Final = ROOT / "docs" / "operations" / "estimates.md"
MARK: Final = "<!-- Written by make estimates. -->"


def main() -> None:
    """Judge the held-out texts while they are there, then write results and tables."""
    result = json.loads(COUNTS.read_text(encoding="utf-8"))
    if "held_out" in result:
        kept = result.pop("held_out")
        result["held_out_errors"] = {"now": _judged(kept, estimated), "quarter": _judged(kept, quarter)}
        COUNTS.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
    PAGE.write_text(f"{before}{MARK}\n\n{tables(result)}\n\n{MARK}{after}", encoding="utf-8")


def _judged(kept: list[dict[str, Any]], estimator: Estimator) -> list[dict[str, Any]]:
    found = (dataclasses.asdict(error) for error in errors(kept, estimator, held_out()))
    return [{"tokeniser": error["tokeniser"], "share": round(error["share"], 4)} for error in found]


if __name__ == "__main__":
    main()
