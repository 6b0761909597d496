"""What a check found: a value. How it is shown is the command line's matter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is: fine, worth a change, or in the way of serving."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``cure`` says what to do, unless all is well."""

    check: str
    verdict: Verdict
    found: str
    cure: str | None = None


def ok(check: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(check, Verdict.OK, found)


def warn(check: str, found: str, cure: str) -> Finding:
    """Return a finding that should be changed, though the gateway runs."""
    return Finding(check, Verdict.WARN, found, cure)


def fail(check: str, found: str, cure: str) -> Finding:
    """Return a finding with which the gateway does not run, or does not count right."""
    return Finding(check, Verdict.FAIL, found, cure)
