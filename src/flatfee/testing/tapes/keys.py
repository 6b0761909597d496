"""The keys of real providers, from the environment: only what a recording and a comparison need of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flatfee.server.configuration import SettingsError, provider_key_problems, read_settings, with_key
from flatfee.server.settings import Settings


def settings_with_providers(path: Path, env: Mapping[str, str]) -> Settings:
    """Read a configuration with the keys of its providers, and no others.

    Raises:
        SettingsError: the file cannot be read, says something impossible, or a provider's key is missing.
    """
    return with_provider_keys(read_settings(path, env), env, str(path))


def with_provider_keys(settings: Settings, env: Mapping[str, str], source: str) -> Settings:
    """Return settings whose providers have the keys that the environment holds. ``source`` is named in errors.

    Raises:
        SettingsError: one is missing.
    """
    if problems := list(provider_key_problems(settings, env)):
        raise SettingsError(source, problems)
    return settings.model_copy(update={"providers": tuple(with_key(each, env) for each in settings.providers)})
