"""Lets these tests import ``benchmarks``, which lies beside the package and is never installed."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])

if ROOT not in sys.path:
    sys.path.append(ROOT)
