"""How this command line was called, so that hints can be copied as they stand. Nothing else."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def command() -> str:
    """Return what runs ``flatfee`` again: the name where the shell finds it, else what was typed."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.orig_argv[0])} -m flatfee"
    found = shutil.which("flatfee")
    if called.name != "flatfee" or (found is not None and Path(found).resolve() == called.resolve()):
        return "flatfee"
    return shlex.quote(sys.argv[0])
