"""The ``flatfee`` command with ``serve`` alone: a gateway need not hold in memory what the other commands import."""

from __future__ import annotations

from flatfee.cli.base import new_app
from flatfee.cli.serve import serve

app = new_app()
app.command()(serve)
