"""Compares estimates with the counts that were kept, and renders the tables of docs/operations/estimates.md. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Final

from benchmarks.estimates.corpus import HELD_OUT, Sample, samples, spelled
from flatfee.server.ask import read_ask
from flatfee.server.estimating import estimate_tokens

RECONSTRUCTED: Final = frozenset({"Claude 3 to 4.6", "Claude 4.7 on"})
"""Tokenisers that are known by their counts only: shown, and in no figure of several."""

RARE: Final = frozenset({"arabic", "cjk", "cyrillic", "emoji", "encoded", "indic"})
"""Kinds whose tokens differ most from one tokeniser to the next; the other kinds are ordinary."""

Estimator = Callable[[bytes], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """An estimate beside a count: ``share`` is how far above the count it is, as a share of the count."""

    kind: str
    tokeniser: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What several errors come to, as shares of the count; ``under`` is the share of estimates below it."""

    low: float
    middle: float
    high: float
    worst: float
    under: float


def estimated(body: bytes) -> int:
    """Return what the gateway estimates."""
    return read_ask({}, body).prompt_tokens


def quarter(body: bytes) -> int:
    """Return the rule of thumb that it is compared with: a token for every four bytes, and four for a message."""
    fields = read_ask({}, body).fields
    size = sum(len(memoryview(fields[name])) for name in ("messages", "tools") if name in fields)
    return estimate_tokens(size) + 4 * bytes(fields["messages"]).count(b'"role":')


def errors(
    kept: Sequence[Mapping[str, Any]], estimator: Estimator, asked: Iterable[Sample], *, escaped: bool = False
) -> list[Error]:
    """Return every estimate's error.

    Raises:
        ValueError: a request is not the one that was counted.
    """
    found = []
    for row, sample in zip(kept, asked, strict=True):
        if (row["name"], row["digest"]) != (sample.name, sample.digest):
            message = f"{sample.kind}/{sample.name} is not what was counted; run 'make estimates'"
            raise ValueError(message)
        estimate = estimator(spelled(sample.body, escaped=escaped))
        found += [
            Error(kind=row["kind"], tokeniser=name, share=estimate / count - 1) for name, count in row["counts"].items()
        ]
    return found


def spread(found: Iterable[Error]) -> Spread:
    """Return median, first and last tenth, the worst estimate below the count, and how often it was below."""
    shares = [error.share for error in found]
    tenths = quantiles(shares, n=10, method="inclusive")
    under = sum(share < 0 for share in shares) / len(shares)
    return Spread(low=tenths[0], middle=median(shares), high=tenths[-1], worst=min(shares), under=under)


def tables(result: Mapping[str, Any]) -> str:
    """Return the page's tables: by kind with the rule of thumb beside, and by tokeniser."""
    asked = list(samples())
    now = errors(result["samples"], estimated, asked)
    thumb = errors(result["samples"], quarter, asked)
    # Where nothing is spelled otherwise, escapes are no test.
    escaped = [error for error in errors(result["samples"], estimated, asked, escaped=True) if error.kind != "encoded"]
    held = [Error(kind=HELD_OUT, **error) for error in result["held_out_errors"]["now"]]
    held_thumb = [Error(kind=HELD_OUT, **error) for error in result["held_out_errors"]["quarter"]]
    return f"{_by_kind(now + held, thumb + held_thumb, escaped)}\n\n{_by_tokeniser(now + held)}"


def _by_kind(now: Sequence[Error], thumb: Sequence[Error], escaped: Sequence[Error]) -> str:
    heads = ["kind of text", "median", "first tenth", "last tenth", "worst", "below", "a quarter of the bytes: median"]
    heads += ["worst", "below"]
    kinds = sorted({error.kind for error in now})
    rows = [[kind, *_cells(_of(now, kind)), *_brief(_of(thumb, kind))] for kind in kinds]
    ordinary = {*kinds} - RARE - {HELD_OUT}
    rows.append(["**ordinary kinds**", *_cells(_of(now, *ordinary)), *_brief(_of(thumb, *ordinary))])
    rows.append(["ordinary kinds, JSON escaped", *_cells(_of(escaped, *ordinary)), "", "", ""])
    rows.append(["rare kinds, JSON escaped", *_cells(_of(escaped, *RARE)), "", "", ""])
    return _table(heads, rows)


def _by_tokeniser(now: Sequence[Error]) -> str:
    names = list(dict.fromkeys(error.tokeniser for error in now))
    rows = [
        [kind, *(_percent(median(_shares(now, kind, name))) for name in names)]
        for kind in sorted({error.kind for error in now})
    ]
    ordinary = {error.kind for error in now} - RARE - {HELD_OUT}
    by_name = [[error for error in now if error.tokeniser == name and error.kind in ordinary] for name in names]
    rows.append(["**ordinary kinds**", *(_percent(spread(found).middle) for found in by_name)])
    rows.append(["ordinary kinds, first tenth", *(_percent(spread(found).low) for found in by_name)])
    rows.append(["ordinary kinds, last tenth", *(_percent(spread(found).high) for found in by_name)])
    return _table(["kind of text: median", *names], rows)


def _of(found: Iterable[Error], *kinds: str) -> list[Error]:
    return [error for error in found if error.kind in kinds and error.tokeniser not in RECONSTRUCTED]


def _shares(found: Iterable[Error], kind: str, tokeniser: str) -> list[float]:
    return [error.share for error in found if (error.kind, error.tokeniser) == (kind, tokeniser)]


def _cells(found: Iterable[Error]) -> list[str]:
    seen = spread(found)
    return [*map(_percent, (seen.middle, seen.low, seen.high, seen.worst)), f"{seen.under:.0%}"]


def _brief(found: Iterable[Error]) -> list[str]:
    seen = spread(found)
    return [_percent(seen.middle), _percent(seen.worst), f"{seen.under:.0%}"]


def _percent(share: float) -> str:
    return f"{share:+.0%}".replace("-", "−")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
