"""What reading the configuration again does to the ledger: all of it, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.store.test_provision import account, key

from flatfee.server.store.account_commands import AddAccount, ChangeAccount
from flatfee.server.store.accounts import NotAllowed, Page
from flatfee.server.store.file_commands import ReloadSettings


async def reload(desk: Any, *accounts: Any, gone: tuple[str, ...] = ()) -> None:
    command = ReloadSettings(accounts=accounts, plans_gone=gone, file="flatfee.toml", details={"plans": "-pro"})
    await desk.store.administer("key_1", command)


async def entries(desk: Any) -> list[tuple[str, str, str]]:
    found, _ = await desk.store.audit(Page(limit=100))
    return [(entry.actor, entry.action, entry.subject) for entry in reversed(found)]


async def test_the_files_accounts_are_brought_in_and_who_did_it_is_noted(desk: Any) -> None:
    await reload(desk, account(key("ci", b"one")))
    assert (await desk.store.find_key(b"one")).plan == "pro"
    assert (await entries(desk))[-1] == ("key_1", "settings.reload", "flatfee.toml")


async def test_a_plan_that_nobody_has_may_go(desk: Any) -> None:
    await reload(desk, account(key("ci", b"one")), gone=("max", "small"))


@pytest.mark.parametrize("others", [1, 6])
async def test_a_plan_that_somebody_has_may_not_go_and_nothing_is_written(desk: Any, others: int) -> None:
    for number in range(others):
        await desk.store.administer("setup", AddAccount(name=f"guest-{number}", plan="small"))
    before = await entries(desk)
    with pytest.raises(NotAllowed, match="'small'") as refused:
        await reload(desk, account(key("ci", b"one")), gone=("small",))
    assert ("guest-4 and others;" in str(refused.value)) is (others == 6)
    assert "guest-5" not in str(refused.value)
    assert await entries(desk) == before
    assert await desk.store.find_key(b"one") is None


async def test_an_account_that_the_file_moves_does_not_hold_its_old_plan(desk: Any) -> None:
    await desk.store.provision([account(key("ci", b"one"))])
    await reload(desk, account(key("ci", b"one"), plan="max"), gone=("pro",))
    assert (await desk.store.find_key(b"one")).plan == "max"


async def test_an_account_that_an_administrator_moved_holds_its_plan_against_the_file(desk: Any) -> None:
    """The file says what it said before, so the administrator's word holds."""
    await desk.store.provision([account(key("ci", b"one"))])
    await desk.store.administer("setup", ChangeAccount(name="acme", plan="small"))
    with pytest.raises(NotAllowed, match="the plan of acme;"):
        await reload(desk, account(key("ci", b"one")), gone=("small",))


async def test_an_account_that_the_file_names_no_more_holds_its_plan(desk: Any) -> None:
    await desk.store.provision([account(key("ci", b"one"))])
    with pytest.raises(NotAllowed, match="the plan of acme;"):
        await reload(desk, gone=("pro",))


async def test_among_many_that_are_moved_the_one_that_is_not_is_found(desk: Any) -> None:
    moved = [account(name=f"a-{number:02}") for number in range(30)]
    await desk.store.provision([*moved, account(name="z-last")])
    with pytest.raises(NotAllowed, match="the plan of z-last;"):
        await reload(desk, *(account(name=entry.name, plan="max") for entry in moved), gone=("pro",))
