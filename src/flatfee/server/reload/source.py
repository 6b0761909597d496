"""Where a gateway's configuration comes from, so that it can be read again as it was read at the start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flatfee.server.configuration import parse_settings, read_text
from flatfee.server.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file, the environment beside it, and the keys of ``[server]`` that the command line gave instead of it."""

    path: Path
    env: Mapping[str, str] = field(repr=False)
    given: Mapping[str, object] = field(default_factory=dict)

    def read(self) -> Settings:
        """Read the configuration. Blocks: not for an event loop.

        Raises:
            SettingsError: the file cannot be read, is not TOML, or says something impossible.
        """
        return self.read_with_digest()[0]

    def read_with_digest(self) -> tuple[Settings, str]:
        """Read the configuration, and tell the SHA-256 of the file's text. Blocks, and raises, as ``read``."""
        text = read_text(self.path)
        settings = parse_settings(text, source=str(self.path), env=self.env)
        server = settings.server.model_copy(update=self.given)
        return settings.model_copy(update={"server": server}), hashlib.sha256(text.encode()).hexdigest()
