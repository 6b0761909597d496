"""Whether the providers can be reached: a name that resolves, a port that listens. No completion is asked for."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from flatfee.server.doctor.finding import Finding, fail, ok, warn
from flatfee.server.settings import ProviderSettings

PATIENCE: Final = 3.0
"""Seconds to wait for each address of a provider."""


def examine_provider(provider: ProviderSettings, *, patience: float = PATIENCE) -> Iterator[Finding]:
    """Look at one provider: its address, its key, and whether it can be reached."""
    check = f"provider {provider.name}"
    if provider.base_url is None:
        yield ok(check, "it is simulated: made-up answers, and nothing to reach")
        return
    url = urlsplit(provider.base_url)
    host, secure = url.hostname or "", url.scheme == "https"
    if not secure and not is_loopback(host):
        cure = f"Write base_url with https:// in [[providers]] {provider.name!r}, if the provider offers it."
        yield warn(check, f"keys and prompts travel to {host} unencrypted", cure)
    if not (provider.key_env or provider.api_key or is_loopback(host)):
        cure = "Name the environment variable that holds its key: api_key_env."
        yield warn(check, "no key is sent", cure)
    yield _reach(check, host, url.port or (443 if secure else 80), secure=secure, patience=patience)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _reach(check: str, host: str, port: int, *, secure: bool, patience: float) -> Finding:
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=patience) as connection:
            if secure:
                with ssl.create_default_context().wrap_socket(connection, server_hostname=host):
                    pass
    except socket.gaierror as error:
        return fail(check, f"{host} does not resolve: {error.strerror}", "Check base_url, and this machine's DNS.")
    except ssl.SSLCertVerificationError as error:
        cure = "Check base_url, and that this machine's certificates and clock are current."
        return fail(check, f"{where} shows a certificate that is not valid: {error.verify_message}", cure)
    except ssl.SSLError as error:
        cure = "Check base_url: http:// and https:// are often mixed up."
        return fail(check, f"{where} does not speak TLS: {error.reason}", cure)
    except OSError as error:
        cure = "Check base_url, that the provider runs, and that a firewall lets it through; no proxy is used."
        return fail(check, f"{where} cannot be reached: {error.strerror or error}", cure)
    return ok(check, f"{where} answers{' over TLS' if secure else ''}")
