"""Who asks: what counts as a key, and what does not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.server.fakes import KEY, make_settings

from flatfee.server.faults import Fault
from flatfee.server.keys import KeyKind, checksum, digest, new_key
from flatfee.server.stages.authenticate import authenticate, check_scope
from flatfee.server.store.memory import MemoryStore
from flatfee.server.store.records import Caller, NewAccount, NewKey, NewProject
from flatfee.wire import Billing, ErrorCode


async def a_store(*keys: NewKey) -> MemoryStore:
    store = MemoryStore()
    project = NewProject(name="ci", keys=keys)
    await store.provision(
        [NewAccount(name="acme", plan="pro", billing=Billing.ACTIVE, billing_day=1, projects=(project,))]
    )
    return store


def a_key(secret: str, kind: KeyKind = KeyKind.PROJECT, expires_at: float | None = None) -> NewKey:
    return NewKey(digest=digest(secret), name="k", kind=kind, last4=secret[-4:], expires_at=expires_at)


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY}  "])
async def test_a_bearer_key_is_found_whatever_its_case_and_space(header: str) -> None:
    caller = await authenticate({b"authorization": header.encode()}, await a_store(a_key(KEY)))
    assert (caller.account, caller.project, caller.kind) == ("acme", "ci", KeyKind.PROJECT)


@pytest.mark.parametrize("header", [None, "", f"Basic {KEY}", KEY, f"Bearer\t{KEY}"])
async def test_what_is_no_bearer_key_is_missing(header: str | None) -> None:
    headers = {} if header is None else {b"authorization": header.encode()}
    with pytest.raises(Fault) as caught:
        await authenticate(headers, await a_store(a_key(KEY)))
    assert caught.value.code is ErrorCode.MISSING_API_KEY
    assert KEY not in caught.value.message


class NoLookUps(MemoryStore):
    async def find_key(self, digest: bytes) -> Caller | None:
        raise AssertionError(digest)


BODY = KeyKind.PROJECT.prefix + "0" * 43
REAL = BODY + checksum(BODY)
NO_KEYS = {
    "nothing": "",
    "short": "short",
    "mistyped": REAL.replace("000", "001", 1),
    "not ASCII": "\u00fc" * 40,
    "long": "x" * 5000,
    "not our form": "ff_" + "x" * 40,
}


@pytest.mark.parametrize("secret", NO_KEYS.values(), ids=NO_KEYS)
async def test_what_cannot_be_a_key_is_refused_before_any_look_up(secret: str) -> None:
    with pytest.raises(Fault) as caught:
        await authenticate({b"authorization": f"Bearer {secret}".encode()}, NoLookUps())
    assert caught.value.code is ErrorCode.INVALID_API_KEY
    assert not secret or secret not in caught.value.message


async def test_unknown_and_expired_keys_look_alike() -> None:
    store = await a_store(a_key(KEY, expires_at=1.0))
    messages = set()
    for secret in (KEY, REAL):
        with pytest.raises(Fault) as caught:
            await authenticate({b"authorization": f"Bearer {secret}".encode()}, store)
        assert caught.value.code is ErrorCode.INVALID_API_KEY
        messages.add(caught.value.message)
    assert len(messages) == 1


async def test_an_admin_key_may_not_ask_for_completions() -> None:
    secret = new_key(KeyKind.ADMIN)
    with pytest.raises(Fault) as caught:
        await authenticate({b"authorization": f"Bearer {secret}".encode()}, await a_store(a_key(secret, KeyKind.ADMIN)))
    assert caught.value.code is ErrorCode.PERMISSION_DENIED


async def test_a_scope_names_the_models_that_a_key_may_use() -> None:
    caller = await authenticate({b"authorization": f"Bearer {KEY}".encode()}, await a_store(a_key(KEY)))
    settings = make_settings()
    check_scope(caller, "premium", settings)
    scoped = replace(caller, models=frozenset({"economy", "auto"}))
    check_scope(scoped, "auto", settings)
    with pytest.raises(Fault, match="it may use: auto, economy") as caught:
        check_scope(scoped, "premium", settings)
    assert (caught.value.code, caught.value.param) == (ErrorCode.PERMISSION_DENIED, "model")


async def test_a_scope_may_name_an_alias_that_stands_for_many_names() -> None:
    caller = await authenticate({b"authorization": f"Bearer {KEY}".encode()}, await a_store(a_key(KEY)))
    settings = make_settings(aliases={"claude-*": "economy", "claude-opus-*": "premium", "claude-x": "premium"})
    scoped = replace(caller, models=frozenset({"claude-*"}))
    check_scope(scoped, "claude-haiku-4-5-20251001", settings)
    for name in ("claude-opus-4-5-20251101", "claude-x"):  # each is found by another alias, with another meaning
        with pytest.raises(Fault, match="it may use: claude-\\*"):
            check_scope(scoped, name, settings)
    check_scope(replace(caller, models=frozenset({"claude-haiku-1"})), "claude-haiku-1", settings)
