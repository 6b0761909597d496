"""What tapes are to one scripted gateway: real providers that are recorded, or recorded ones that are replayed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flatfee.server.providers.base import Provider
from flatfee.server.settings import Settings
from flatfee.testing.options import Options
from flatfee.testing.tapes.keys import with_provider_keys
from flatfee.testing.tapes.replay import Player, Tapes

if TYPE_CHECKING:
    from flatfee.testing.tapes.recording import Recorder

Folder = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taping:
    """``real`` are the providers that are recorded, by name; ``player`` what is replayed. Neither: no tapes."""

    real: Mapping[str, Provider] = field(default_factory=dict)
    recorder: Recorder | None = None
    player: Player | None = None

    @classmethod
    def of(cls, options: Options, settings: Settings, clock: Callable[[], float]) -> Taping:
        """Return what ``record``, ``replay`` and ``redact`` ask for. ``clock`` is the gateway's, in seconds.

        Raises:
            SettingsError: a real provider's key is not in the environment.
            TapeError: a tape cannot be used, or none written.
            ValueError: they do not go together, or with the other options.
        """
        record, replay = options.record, options.replay
        if record is not None and replay is not None:
            raise ValueError("record= and replay= are both given; record first, then replay.")
        player = None
        if replay is not None:
            player = Player(replay if isinstance(replay, Tapes) else Tapes.load(replay))
        taping = cls(player=player) if record is None else cls._recording(options, settings, Path(record), clock)
        if taping.in_real_time and options.frozen:
            raise ValueError(
                "frozen=True is given, and what is recorded or played in real time needs a clock that runs."
            )
        return taping

    @classmethod
    def _recording(cls, options: Options, settings: Settings, folder: Path, clock: Callable[[], float]) -> Taping:
        from flatfee.testing.tapes.recording import recording_providers  # most gateways need none of it

        if all(provider.kind == "simulated" for provider in settings.providers):
            raise ValueError(
                "record= records real providers, and there are none; give a file that has some by config=."
            )
        settings = with_provider_keys(settings, os.environ, "record=")
        real, recorder = recording_providers(settings, folder, clock=clock, redact=options.redact)
        return cls(real=real, recorder=recorder)

    @property
    def in_real_time(self) -> bool:
        """Whether time is the machine's: real providers take theirs."""
        return self.recorder is not None or (self.player is not None and self.player.tapes.real)

    @property
    def unplayed(self) -> list[str]:
        """The names of the tapes that nothing was answered from."""
        return self.player.unplayed if self.player is not None else []

    def rewind(self) -> None:
        """Play the tapes from the start again."""
        if self.player is not None:
            self.player.rewind()

    def check(self) -> None:
        """Tell of tapes that could not be written.

        Raises:
            TapeError: there are some.
        """
        if self.recorder is not None:
            self.recorder.check()
