"""``flatfee init``: a configuration that works, a ledger, and the keys to begin with."""

from flatfee.cli.init.command import init

__all__ = ["init"]
