"""``flatfee demo``: an agent run against a real gateway, lane by lane, until nothing is left to ask.

``gateway`` runs the gateway, ``script`` is the run, ``stage`` shows it. Nothing of it is acted:
every lane shown was read from a receipt, and the command fails if one that it promises is missing.
"""

from flatfee.cli.demo.command import demo

__all__ = ["demo"]
