"""The keys of real providers, from the environment: only what a recording and a comparison need of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from flatfee.server.configuration import SettingsError, read_settings
from flatfee.server.settings import ProviderSettings, Settings


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
    problems = [
        f"providers[{index}].api_key_env: environment variable {provider.api_key_env!r} is not set; export it"
        for index, provider in enumerate(settings.providers)
        if provider.api_key_env and not env.get(provider.api_key_env)
    ]
    if problems:
        raise SettingsError(source, problems)

    def keyed(provider: ProviderSettings) -> ProviderSettings:
        if provider.api_key_env is None:
            return provider
        return provider.model_copy(update={"api_key": SecretStr(env[provider.api_key_env])})

    return settings.model_copy(update={"providers": tuple(map(keyed, settings.providers))})
