"""What the configuration file does to accounts, projects and keys, and what a key stands for."""

from dataclasses import replace
from typing import Any

import pytest

from flatfee.server.keys import KeyKind
from flatfee.server.store.records import NewAccount, NewKey, NewProject
from flatfee.wire import Billing


def key(name: str, digest: bytes, **more: Any) -> NewKey:
    return NewKey(digest=digest, name=name, kind=KeyKind.PROJECT, last4="abcd", **more)


def account(*keys: NewKey, **more: Any) -> NewAccount:
    facts: dict[str, Any] = {"name": "acme", "plan": "pro", "billing": Billing.ACTIVE, "billing_day": 1}
    return NewAccount(**facts | more, projects=(NewProject(name="ci", keys=keys),))


async def test_a_key_stands_for_its_project(desk: Any) -> None:
    await desk.store.provision([account(key("ci", b"one"), billing_day=31)])
    caller = await desk.store.find_key(b"one")
    assert (caller.account, caller.project, caller.plan) == ("acme", "ci", "pro")
    assert (caller.billing, caller.billing_day) == (Billing.ACTIVE, 31)
    assert (caller.kind, caller.models) == (KeyKind.PROJECT, None)


async def test_keys_have_ids_of_their_own(desk: Any) -> None:
    await desk.store.provision([account(key("a", b"one"), key("b", b"two"))])
    first, second = await desk.store.find_key(b"one"), await desk.store.find_key(b"two")
    assert first.key_id != second.key_id


async def test_an_unknown_key_stands_for_nobody(desk: Any) -> None:
    assert await desk.store.find_key(b"unknown") is None


async def test_provisioning_again_changes_nothing(desk: Any) -> None:
    for _ in range(2):
        await desk.store.provision([account(key("ci", b"one"))])
    assert (await desk.store.find_key(b"one")).project == "ci"


async def test_what_the_file_says_of_an_account_follows_the_file(desk: Any) -> None:
    await desk.store.provision([account(key("ci", b"one"), billing=Billing.PAST_DUE)])
    await desk.store.provision([account(key("ci", b"one"), plan="max", billing_day=7)])
    caller = await desk.store.find_key(b"one")
    assert (caller.plan, caller.billing, caller.billing_day) == ("max", Billing.ACTIVE, 7)


async def test_a_key_that_the_file_names_no_more_stops_working(desk: Any) -> None:
    """Renamed, replaced, removed, or gone with its project."""
    web = NewProject(name="web", keys=(key("web", b"web"),))
    before = account(key("ci", b"old"), key("spare", b"spare"), key("same", b"same"))
    await desk.store.provision([replace(before, projects=(*before.projects, web))])
    await desk.store.provision([account(key("ci", b"new"), key("renamed", b"same"))])
    found = [await desk.store.find_key(digest) is not None for digest in (b"old", b"spare", b"web", b"new", b"same")]
    assert found == [False, False, False, True, True]


async def test_of_an_account_that_the_file_names_no_more_only_its_keys_end(desk: Any) -> None:
    await desk.store.provision([account(key("ci", b"one")), account(key("ci", b"two"), name="other")])
    await desk.store.provision([account(key("ci", b"one"))])
    other = await desk.store.account("other")
    assert (other.plan, other.from_file) == ("pro", False)
    assert await desk.store.find_key(b"two") is None


async def test_the_same_name_in_another_project_is_another_key(desk: Any) -> None:
    web = NewProject(name="web", keys=(key("ci", b"two"),))
    both = account(key("ci", b"one"))
    await desk.store.provision([replace(both, projects=(*both.projects, web))])
    assert (await desk.store.find_key(b"one")).project == "ci"
    assert (await desk.store.find_key(b"two")).project == "web"


async def test_a_key_ends_with_its_expiry(desk: Any) -> None:
    await desk.store.provision([account(key("ci", b"one", expires_at=desk.clock.now + 5))])
    desk.clock.advance(4.9)
    assert await desk.store.find_key(b"one") is not None
    desk.clock.advance(0.1)
    assert await desk.store.find_key(b"one") is None


@pytest.mark.parametrize("models", [frozenset(), frozenset({"economy"}), frozenset({"a name", "auto"})])
async def test_a_keys_scope_of_models_is_kept(desk: Any, models: frozenset[str]) -> None:
    await desk.store.provision([account(key("ci", b"one", models=models))])
    assert (await desk.store.find_key(b"one")).models == models
