"""The rows of well-known services: what of a provider follows from its kind, and where each quirk was read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import SecretStr
from tests.server.fakes import route

from flatfee.server.configuration import SettingsError, parse_settings
from flatfee.server.providers.dialect import PLAIN, Dialect
from flatfee.server.providers.registry import APIS
from flatfee.server.providers.rows import ROWS
from flatfee.server.settings import ProviderSettings, Settings

SECRET = "canary-upstream-secret"
HOSTED = [kind for kind, row in ROWS.items() if row.needs_key and row.base_url]
FIELDS = [(kind, field) for kind in ROWS for field in Dialect.model_fields]


def provider(kind: str, **options: Any) -> ProviderSettings:
    return ProviderSettings.model_validate({"name": "up", "kind": kind, **options})


def settings(text: str, env: Mapping[str, str] = MappingProxyType({}), *, prefill: bool = False) -> Settings:
    routes = (
        f'[[routes]]\nname = "r"\nprovider = "up"\nmodel = "m"\ntier = "premium"\nprefill = {str(prefill).lower()}\n'
    )
    plans = '[[plans]]\nname = "pro"\nfair_use = 100\n'
    return parse_settings(f'[[providers]]\nname = "up"\n{text}\n{routes}{plans}', source="f.toml", env=env)


def problems(text: str, env: Mapping[str, str] = MappingProxyType({}), *, prefill: bool = False) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        settings(text, env, prefill=prefill)
    return raised.value.problems


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_what_a_row_says_of_requests_has_its_source_and_nothing_else_has(kind: str, field: str) -> None:
    row = ROWS[kind]
    differs = getattr(row.dialect, field) != getattr(PLAIN, field)
    assert differs == (field in {quirk.field for quirk in row.quirks})


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_names_an_adapter_and_its_sources_are_addresses(kind: str) -> None:
    row = ROWS[kind]
    assert row.api in APIS
    assert re.fullmatch(r"[a-z][a-z-]*", kind)
    sources = [quirk.source for quirk in row.quirks] + ([] if row.api == "simulated" else [row.source])
    assert all(re.fullmatch(r"https://\S+\.\S+", source) for source in sources)


@pytest.mark.parametrize("kind", HOSTED)
def test_a_hosted_service_needs_only_its_key(kind: str) -> None:
    name = ROWS[kind].key_env
    assert name is not None
    (made,) = settings(f'kind = "{kind}"', {name: SECRET}).providers
    assert made.base_url == ROWS[kind].base_url
    assert made.api_key == SecretStr(SECRET)


def test_a_key_that_is_needed_and_missing_is_named() -> None:
    (problem,) = problems('kind = "groq"')
    assert problem == (
        "providers[0]: groq needs a key, and environment variable 'GROQ_API_KEY' is not set; "
        "export it, or name another variable: api_key_env"
    )


@pytest.mark.parametrize("end", ["\n", " ", "\r\nx: y", "\x00", "ä"])
@pytest.mark.parametrize("named", ["", 'api_key_env = "GROQ_API_KEY"'])
def test_a_key_that_no_header_may_hold_is_an_error_at_start_and_not_shown(end: str, named: str) -> None:
    (problem,) = problems(f'kind = "groq"\n{named}', {"GROQ_API_KEY": SECRET + end})
    assert problem.startswith("providers[0]: the key in environment variable 'GROQ_API_KEY' has white space or ")
    assert SECRET not in problem


def test_a_services_key_does_not_go_to_another_address() -> None:
    (made,) = settings('kind = "openai"\nbase_url = "http://elsewhere.test/v1"', {"OPENAI_API_KEY": SECRET}).providers
    assert made.api_key is None
    (made,) = settings('kind = "groq"\nbase_url = "http://elsewhere.test/v1"', {"GROQ_API_KEY": SECRET}).providers
    assert made.api_key is None


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("https://api.deepseek.com/v1", True),
        ("https://API.deepseek.com:443", True),
        ("http://api.deepseek.com", False),
        ("https://api.deepseek.com:444", False),
        ("https://api.deepseek.com.evil.test/v1", False),
        ("https://evil.test/api.deepseek.com", False),
    ],
)
def test_a_services_key_goes_to_its_own_host_whatever_the_path(address: str, own: bool) -> None:
    (made,) = settings(f'kind = "deepseek"\nbase_url = "{address}"', {"DEEPSEEK_API_KEY": SECRET}).providers
    assert made.api_key == (SecretStr(SECRET) if own else None)


def test_a_service_without_an_address_of_its_own_has_its_key_wherever_it_is() -> None:
    text = 'kind = "azure-openai"\nbase_url = "https://acme.openai.azure.com/openai/v1/"'
    (made,) = settings(text, {"AZURE_OPENAI_API_KEY": SECRET}).providers
    assert (made.api_key, made.speaks.key_header) == (SecretStr(SECRET), "api-key")


@pytest.mark.parametrize(("env", "key"), [({}, None), ({"VLLM_API_KEY": SECRET}, SecretStr(SECRET))])
def test_an_own_server_has_a_key_if_the_environment_has_one(env: Mapping[str, str], key: SecretStr | None) -> None:
    (made,) = settings('kind = "vllm"', env).providers
    assert (made.base_url, made.api_key) == ("http://127.0.0.1:8000/v1", key)


def test_a_variable_that_is_named_is_the_one_that_counts() -> None:
    (made,) = settings('kind = "groq"\napi_key_env = "OTHER"', {"OTHER": SECRET, "GROQ_API_KEY": "x"}).providers
    assert made.api_key == SecretStr(SECRET)


def test_openai_at_another_address_is_any_compatible_server() -> None:
    assert provider("openai", base_url="http://127.0.0.1:9/v1").speaks is PLAIN
    assert provider("openai").speaks.output_limit == "max_completion_tokens"
    assert provider("openai", base_url="https://api.openai.com/v1/").speaks.output_limit == "max_completion_tokens"


def test_a_file_overrides_single_fields_of_a_dialect() -> None:
    made = provider("mistral", dialect={"stream_options": True, "leave_out": ["user"]})
    assert made.speaks == ROWS["mistral"].dialect.model_copy(
        update={"stream_options": True, "leave_out": frozenset({"user"})}
    )
    assert Settings.model_validate(
        {"providers": [made], "routes": [route("r", provider="up")], "plans": [{"name": "p", "fair_use": 1}]}
    ).dialect("up") == (made.speaks)


def test_a_route_whose_service_does_not_go_on_from_a_begun_answer_may_not_promise_it() -> None:
    (problem,) = problems('kind = "openai"', {"OPENAI_API_KEY": SECRET}, prefill=True)
    assert problem == "routes[0].prefill: openai does not go on from a begun answer; leave it out"
    settings('kind = "openai"\ndialect = {prefill = "plain"}', {"OPENAI_API_KEY": SECRET}, prefill=True)


def test_deepseek_goes_on_from_a_begun_answer_at_one_of_its_addresses_and_has_its_key_there() -> None:
    (problem,) = problems(
        'kind = "deepseek"\nbase_url = "https://api.deepseek.com/v1"', {"DEEPSEEK_API_KEY": SECRET}, prefill=True
    )
    assert (problem,) == problems('kind = "deepseek"', {"DEEPSEEK_API_KEY": SECRET}, prefill=True)
    assert problem == (
        "routes[0].prefill: deepseek goes on from a begun answer only at base_url = 'https://api.deepseek.com/beta'; "
        "write that, or leave it out"
    )
    text = 'kind = "deepseek"\nbase_url = "https://api.deepseek.com/beta"'
    (made,) = settings(text, {"DEEPSEEK_API_KEY": SECRET}, prefill=True).providers
    assert made.api_key == SecretStr(SECRET)
