"""The command line: ``flatfee serve``, ``demo``, ``chat`` and ``route``. One file per command.

Needs the ``server`` extra. This module only gathers the commands; each is thin over the package.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from flatfee.cli.app import app

        app()
    except ModuleNotFoundError as error:
        if str(error.name).startswith("flatfee"):
            raise
        sys.exit(f"The command line needs {error.name}. Install it: pip install 'flatfee[server]'")
