"""Who administers: from the ``Authorization`` header to the name in the audit log. Nothing else counts."""

from __future__ import annotations

import hmac

from flatfee.server.call import Call
from flatfee.server.faults import Fault
from flatfee.server.gateway import Gateway
from flatfee.server.keys import KeyKind, digest, is_ours
from flatfee.server.stages.authenticate import INVALID, bearer
from flatfee.wire import ErrorCode


async def administrator(call: Call, gateway: Gateway) -> str:
    """Return who sent the request, as the audit log names it: a key's id, ``env:NAME`` or ``local:USER``.

    Raises:
        Fault: ``missing_api_key``, ``invalid_api_key``; ``permission_denied`` for a key of the model API.
        StoreDown: keys cannot be looked up.
    """
    if gateway.operator is not None:
        return gateway.operator
    secret = bearer(call.headers)
    server = gateway.settings.server
    # A key that was made here is the ledger's to judge, wherever else it is held: it may have been revoked.
    own = server.admin_key if not is_ours(secret) else None
    # Digests are compared, so that not even the length of the operator's secret shows in the time it takes.
    if own is not None and hmac.compare_digest(digest(own.get_secret_value()), digest(secret)):
        return f"env:{server.admin_key_env}"
    caller = await gateway.store.find_key(digest(secret))
    if caller is None:
        raise Fault(ErrorCode.INVALID_API_KEY, INVALID)
    if caller.kind is not KeyKind.ADMIN:
        raise Fault(ErrorCode.PERMISSION_DENIED, "This is a key of the model API; use an admin key.")
    await gateway.store.used(caller.key_id)
    return caller.key_id
