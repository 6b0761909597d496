"""Tapes: real exchanges with providers, recorded through the gateway, replayed without them, and compared with them.

``Tapes.load`` reads a folder of them; what runs them is ``running_gateway(replay=)`` and ``running_gateway(record=)``.
"""

from flatfee.testing.tapes.redaction import EMAIL, Redaction
from flatfee.testing.tapes.replay import Player, Tapes
from flatfee.testing.tapes.tape import Tape, TapeError

__all__ = ["EMAIL", "Player", "Redaction", "Tape", "TapeError", "Tapes"]
