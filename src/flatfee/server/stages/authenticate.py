"""Who asks: from the ``Authorization`` header to a ``Caller``. Nothing else of the request counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flatfee.server.faults import Fault
from flatfee.server.keys import KeyKind, digest, well_formed
from flatfee.server.settings import Settings
from flatfee.server.store.base import Directory
from flatfee.server.store.records import Caller
from flatfee.wire import ErrorCode

INVALID: Final = "This API key is not valid. Check it for typing mistakes, or ask the operator for a new one."


def bearer(headers: Mapping[bytes, bytes]) -> str:
    """Return the key that was sent; it has the form of one.

    Raises:
        Fault: ``missing_api_key``, ``invalid_api_key``.
    """
    sent = headers.get(b"authorization")
    if not sent:
        raise Fault(ErrorCode.MISSING_API_KEY, "Send your API key in the header 'Authorization: Bearer KEY'.")
    scheme, _, secret = sent.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise Fault(ErrorCode.MISSING_API_KEY, "The Authorization header must be 'Bearer KEY'.")
    secret = secret.strip()
    if not well_formed(secret):
        raise Fault(ErrorCode.INVALID_API_KEY, INVALID)
    return secret


async def authenticate(headers: Mapping[bytes, bytes], store: Directory) -> Caller:
    """Return who sent the request.

    Raises:
        Fault: ``missing_api_key``, ``invalid_api_key``; ``permission_denied`` for an admin key,
            which may not use the model API.
        StoreDown: keys cannot be looked up.
    """
    secret = bearer(headers)
    # The look-up goes by the key's SHA-256: its timing tells nothing about any stored key.
    caller = await store.find_key(digest(secret))
    if caller is None:
        raise Fault(ErrorCode.INVALID_API_KEY, INVALID)
    if caller.kind is KeyKind.ADMIN:
        raise Fault(ErrorCode.PERMISSION_DENIED, "Admin keys cannot use this endpoint; use a project or team key.")
    return caller


def still_valid(caller: Caller | None) -> Caller:
    """Return a caller that was looked up again.

    Raises:
        Fault: ``invalid_api_key``: the key ended while its request arrived.
    """
    if caller is None:
        raise Fault(ErrorCode.INVALID_API_KEY, INVALID)
    return caller


def check_scope(caller: Caller, model: str, settings: Settings) -> None:
    """Refuse a model that the key's scope does not name, neither itself nor by the alias that stands for it.

    Raises:
        Fault: ``permission_denied``.
    """
    if caller.models is None or model in caller.models or settings.entry(model) in caller.models:
        return
    allowed = ", ".join(sorted(caller.models))
    message = f"This key may not use the model {model[:80]!r}; it may use: {allowed}."
    raise Fault(ErrorCode.PERMISSION_DENIED, message, param="model")
