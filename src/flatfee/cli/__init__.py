"""The command line: ``flatfee serve``, ``demo``, ``chat`` and ``route``. One file per command.

Needs the ``server`` extra. This module only gathers the commands; each is thin over the package.
"""

from __future__ import annotations

import sys

from flatfee.cli import hangups


def main() -> None:
    """Run the command line."""
    serving = sys.argv[1:2] == ["serve"]
    if serving:
        hangups.hold_back()
    try:
        if serving:
            from flatfee.cli.serving import app
        else:
            from flatfee.cli.app import app
        app()
    except ModuleNotFoundError as error:
        if str(error.name).startswith("flatfee"):
            raise
        sys.exit(f"The command line needs {error.name}. Install it: pip install 'flatfee[server]'")
