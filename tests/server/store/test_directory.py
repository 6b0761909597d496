"""What an administrator may do: over every store, in one transaction with its entry in the audit log."""

from dataclasses import replace
from typing import Any

import pytest

from flatfee.server.keys import KeyKind
from flatfee.server.store.account_commands import (
    AddAccount,
    AddProject,
    ChangeAccount,
    ChangeProject,
    RemoveAccount,
    RemoveProject,
)
from flatfee.server.store.accounts import Denied, Exists, NoSuch, NotAllowed, Page
from flatfee.server.store.key_commands import AddKey, ChangeKey, RevokeKey, RotateKey
from flatfee.server.store.ledger_commands import ReleaseWorkflow
from flatfee.server.store.records import NewAccount, NewKey, NewProject
from flatfee.wire import Billing, ReceiptDetail

ACTOR = "key_admin"
PAGE = Page(limit=100)


def new_key(digest: bytes = b"one", kind: KeyKind = KeyKind.PROJECT, **more: Any) -> NewKey:
    return NewKey(
        **{"digest": digest, "name": "k", "kind": kind, "last4": "abcd", "id": f"key_{digest.decode()}", **more}
    )


class Office:
    """An administrator at a store's desk."""

    def __init__(self, desk: Any) -> None:
        self.desk = desk
        self.store = desk.store

    async def do(self, command: Any) -> Any:
        return await self.store.administer(ACTOR, command)

    async def log(self) -> list[tuple[str, str]]:
        """Return action and subject of every entry, oldest first."""
        entries, _ = await self.store.audit(PAGE)
        return [(entry.action, entry.subject) for entry in reversed(entries)]

    async def last(self) -> Any:
        return (await self.store.audit(Page(limit=1)))[0][0]

    async def works(self, digest: bytes = b"one") -> bool:
        return await self.store.find_key(digest) is not None


@pytest.fixture
async def office(desk: Any) -> Office:
    """An account ``acme`` with the project ``ci`` and its key."""
    office = Office(desk)
    await office.do(AddAccount(name="acme", plan="pro"))
    await office.do(AddProject(account="acme", name="ci"))
    await office.do(AddKey(key=new_key(), account="acme", project="ci"))
    return office


async def test_a_key_that_was_made_stands_for_its_project(office: Office) -> None:
    caller = await office.store.find_key(b"one")
    assert (caller.key_id, caller.kind) == ("key_one", KeyKind.PROJECT)
    assert (caller.account, caller.project, caller.plan) == ("acme", "ci", "pro")
    assert (caller.billing, caller.billing_day, caller.receipts) == (Billing.ACTIVE, 1, None)


async def test_a_team_key_stands_for_an_account_and_an_admin_key_for_none(office: Office) -> None:
    await office.do(AddKey(key=new_key(b"team", KeyKind.TEAM), account="acme"))
    await office.do(AddKey(key=new_key(b"admin", KeyKind.ADMIN)))
    team, admin = await office.store.find_key(b"team"), await office.store.find_key(b"admin")
    assert (team.kind, team.account, team.project) == (KeyKind.TEAM, "acme", None)
    assert (admin.kind, admin.account, admin.project, admin.plan) == (KeyKind.ADMIN, "", None, "")


async def test_every_writing_is_noted_with_who_did_what_to_whom(office: Office) -> None:
    await office.do(ChangeAccount(name="acme", plan="max"))
    await office.do(ChangeProject(account="acme", name="ci", receipts=ReceiptDetail.REDUCED))
    await office.do(ChangeKey(id="key_one", name="renamed"))
    await office.do(RotateKey(id="key_one", new_id="key_two", digest=b"two", last4="2222", overlap=60))
    await office.do(RevokeKey(id="key_two"))
    await office.do(RemoveProject(account="acme", name="ci"))
    await office.do(RemoveAccount(name="acme"))
    assert await office.log() == [
        ("account.create", "acme"),
        ("project.create", "acme/ci"),
        ("key.create", "key_one"),
        ("account.change", "acme"),
        ("project.change", "acme/ci"),
        ("key.change", "key_one"),
        ("key.rotate", "key_one"),
        ("key.revoke", "key_two"),
        ("project.delete", "acme/ci"),
        ("account.delete", "acme"),
    ]
    entry = await office.last()
    assert (entry.actor, entry.at) == (ACTOR, office.desk.clock.now)


async def test_an_entry_tells_what_was_changed_and_what_it_was(office: Office) -> None:
    await office.do(ChangeAccount(name="acme", plan="max", billing_day=1))
    assert (await office.last()).details == {"plan": "max", "plan_was": "pro"}
    await office.do(ChangeKey(id="key_one", models=frozenset({"economy", "auto"}), expires_at=None))
    assert (await office.last()).details == {"models": "auto, economy", "models_was": None}


DENIED: dict[str, tuple[Any, type[Denied]]] = {
    "an account twice": (AddAccount(name="acme", plan="max"), Exists),
    "a change of no account": (ChangeAccount(name="none", plan="max"), NoSuch),
    "no account": (RemoveAccount(name="none"), NoSuch),
    "a project twice": (AddProject(account="acme", name="ci"), Exists),
    "a project of no account": (AddProject(account="none", name="ci"), NoSuch),
    "a change of no project": (ChangeProject(account="acme", name="none"), NoSuch),
    "no project": (RemoveProject(account="acme", name="none"), NoSuch),
    "a key of no project": (AddKey(key=new_key(b"new"), account="acme", project="none"), NoSuch),
    "a key of no account": (AddKey(key=new_key(b"new"), account="none"), NoSuch),
    "a secret twice": (AddKey(key=new_key(id="key_other"), account="acme", project="ci"), Exists),
    "a change of no key": (ChangeKey(id="key_none", name="x"), NoSuch),
    "no key to rotate": (RotateKey(id="key_none", new_id="key_n", digest=b"n", last4="0000", overlap=0), NoSuch),
    "no key to revoke": (RevokeKey(id="key_none"), NoSuch),
    "no workflow": (ReleaseWorkflow(account="acme", project="ci", workflow="run"), NoSuch),
}


@pytest.mark.parametrize("name", DENIED)
async def test_what_is_denied_changes_nothing_and_is_not_noted(office: Office, name: str) -> None:
    command, error = DENIED[name]
    before = await office.log(), await office.store.keys(None, None, PAGE), await office.store.accounts(PAGE)
    with pytest.raises(error) as caught:
        await office.do(command)
    assert str(caught.value).endswith(".")
    assert before == (await office.log(), await office.store.keys(None, None, PAGE), await office.store.accounts(PAGE))


async def test_two_who_change_different_things_do_not_undo_each_other(office: Office) -> None:
    await office.do(ChangeAccount(name="acme", plan="max"))
    await office.do(ChangeAccount(name="acme", billing=Billing.PAST_DUE))
    await office.do(ChangeKey(id="key_one", models=frozenset({"auto"})))
    await office.do(ChangeKey(id="key_one", name="renamed"))
    caller = await office.store.find_key(b"one")
    assert (caller.plan, caller.billing, caller.models) == ("max", Billing.PAST_DUE, frozenset({"auto"}))
    assert (await office.store.key("key_one")).name == "renamed"


async def test_a_changed_account_is_seen_by_the_next_look_up(office: Office) -> None:
    await office.do(ChangeAccount(name="acme", billing=Billing.SUSPENDED, billing_day=31))
    caller = await office.store.find_key(b"one")
    assert (caller.billing, caller.billing_day) == (Billing.SUSPENDED, 31)


async def test_a_project_says_how_much_its_receipts_tell(office: Office) -> None:
    await office.do(ChangeProject(account="acme", name="ci", receipts=ReceiptDetail.REDUCED))
    assert (await office.store.find_key(b"one")).receipts is ReceiptDetail.REDUCED
    await office.do(ChangeProject(account="acme", name="ci"))
    assert (await office.store.project("acme", "ci")).receipts is ReceiptDetail.REDUCED
    await office.do(ChangeProject(account="acme", name="ci", receipts=None))
    assert (await office.store.find_key(b"one")).receipts is None


async def test_a_revoked_key_ends_at_once_and_for_good(office: Office) -> None:
    office.desk.clock.advance(5)
    await office.do(RevokeKey(id="key_one"))
    assert not await office.works()
    revoked_at = (await office.store.key("key_one")).revoked_at
    office.desk.clock.advance(5)
    assert (await office.do(RevokeKey(id="key_one"))).revoked_at == revoked_at == office.desk.clock.now - 5
    with pytest.raises(NotAllowed, match="was revoked; make a new one"):
        await office.do(ChangeKey(id="key_one", name="x"))
    with pytest.raises(NotAllowed, match="was revoked; make a new one"):
        await office.do(RotateKey(id="key_one", new_id="key_two", digest=b"two", last4="2222", overlap=60))
    with pytest.raises(Exists):
        await office.do(AddKey(key=new_key(id="key_two"), account="acme", project="ci"))


async def test_a_key_with_an_expiry_ends_by_the_stores_clock_unless_it_is_taken_off_before(office: Office) -> None:
    await office.do(ChangeKey(id="key_one", expires_at=office.desk.clock.now + 5))
    await office.do(ChangeKey(id="key_one", expires_at=None))
    office.desk.clock.advance(5)
    assert await office.works()
    await office.do(ChangeKey(id="key_one", expires_at=office.desk.clock.now + 5))
    office.desk.clock.advance(5)
    assert not await office.works()
    with pytest.raises(NotAllowed, match="has expired"):
        await office.do(RotateKey(id="key_one", new_id="key_two", digest=b"two", last4="2222", overlap=60))
    with pytest.raises(NotAllowed, match="has expired; make a new one"):
        await office.do(ChangeKey(id="key_one", expires_at=None))
    assert not await office.works()


async def test_rotation_overlaps_by_the_stores_clock(office: Office) -> None:
    await office.do(ChangeKey(id="key_one", models=frozenset({"auto"})))
    new = await office.do(RotateKey(id="key_one", new_id="key_two", digest=b"two", last4="2222", overlap=60))
    assert (new.id, new.name, new.account, new.project, new.models) == (
        "key_two",
        "k",
        "acme",
        "ci",
        frozenset({"auto"}),
    )
    assert (new.last4, new.created_at, new.expires_at) == ("2222", office.desk.clock.now, None)
    office.desk.clock.advance(59.9)
    assert [await office.works(b"one"), await office.works(b"two")] == [True, True]
    office.desk.clock.advance(0.2)
    assert [await office.works(b"one"), await office.works(b"two")] == [False, True]


async def test_rotation_without_overlap_ends_the_old_key_at_once(office: Office) -> None:
    await office.do(RotateKey(id="key_one", new_id="key_two", digest=b"two", last4="2222", overlap=0))
    assert [await office.works(b"one"), await office.works(b"two")] == [False, True]


async def test_rotation_prolongs_nothing(office: Office) -> None:
    ends = office.desk.clock.now + 30
    await office.do(ChangeKey(id="key_one", expires_at=ends))
    new = await office.do(RotateKey(id="key_one", new_id="key_two", digest=b"two", last4="2222", overlap=60))
    assert (await office.store.key("key_one")).expires_at == new.expires_at == ends


@pytest.mark.parametrize("whole", [False, True])
async def test_what_is_removed_takes_its_keys_along_and_leaves_the_rest(office: Office, whole: bool) -> None:
    await office.do(AddProject(account="acme", name="web"))
    await office.do(AddKey(key=new_key(b"web"), account="acme", project="web"))
    await office.do(AddKey(key=new_key(b"team", KeyKind.TEAM), account="acme"))
    await office.do(AddAccount(name="other", plan="pro"))
    await office.do(AddKey(key=new_key(b"other", KeyKind.TEAM), account="other"))
    await office.do(RemoveAccount(name="acme") if whole else RemoveProject(account="acme", name="ci"))
    found = [await office.works(digest) for digest in (b"one", b"web", b"team", b"other")]
    assert found == [False, not whole, not whole, True]
    assert (await office.last()).details == {"keys_revoked": 3 if whole else 1}
    assert (await office.store.account("acme") is None) is whole
    assert await office.store.project("acme", "ci") is None


async def test_an_account_made_again_brings_no_key_back_and_keeps_what_was_used(office: Office) -> None:
    ticket = await office.desk.admitted(office.desk.premium(30))
    await office.do(RemoveAccount(name="acme"))
    await office.desk.settle(ticket, charged=20)
    await office.do(AddAccount(name="acme", plan="pro"))
    await office.do(AddProject(account="acme", name="ci"))
    assert not await office.works()
    assert await office.desk.balance() == (20, 0)
    assert await office.desk.receipt(ticket.request_id) is not None
    key = await office.store.key("key_one")
    assert key.state(office.desk.clock.now) == "revoked"


async def test_the_last_use_is_kept_to_the_minute(office: Office) -> None:
    start = office.desk.clock.now
    for _ in range(8):
        await office.store.used("key_one")
        office.desk.clock.advance(29)
    # noted at 0, 87 and 174: the first use after a whole minute
    assert (await office.store.key("key_one")).last_used_at == start + 174
    await office.store.used("key_none")


async def test_the_last_use_outlives_a_rename_and_is_not_handed_to_the_new_key(office: Office) -> None:
    await office.store.used("key_one")
    used = (await office.do(ChangeKey(id="key_one", name="x"))).last_used_at
    new = await office.do(RotateKey(id="key_one", new_id="key_two", digest=b"two", last4="2222", overlap=60))
    assert (used, new.last_used_at) == (office.desk.clock.now, None)


async def test_a_released_workflow_frees_its_slot(office: Office) -> None:
    await office.desk.settle(await office.desk.admitted(workflow="run"))
    assert (await office.desk.usage()).workflows_active == 1
    await office.do(ReleaseWorkflow(account="acme", project="ci", workflow="run"))
    assert (await office.desk.usage()).workflows_active == 0
    assert (await office.last()).subject == "acme/ci/run"


async def pages(list_: Any, name: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    after, more = None, True
    while more:
        page, more = await list_(Page(limit=2, after=after))
        found.append([name(entry) for entry in page])
        after = str(found[-1][-1])
    return found


async def test_lists_come_in_pages_that_join_without_gap_or_repetition(office: Office) -> None:
    for name in "dbc":
        office.desk.clock.advance(1)
        await office.do(AddAccount(name=name, plan="pro"))
        await office.do(AddProject(account="acme", name=name))
        await office.do(AddKey(key=new_key(name.encode()), account="acme", project=name))
    store = office.store
    assert await pages(store.accounts, lambda entry: entry.name) == [["acme", "b"], ["c", "d"]]
    assert await pages(lambda page: store.projects("acme", page), lambda entry: entry.name) == [["b", "c"], ["ci", "d"]]
    keys = await pages(lambda page: store.keys(None, None, page), lambda entry: entry.id)
    assert keys == [["key_one", "key_d"], ["key_b", "key_c"]]
    entries = await pages(store.audit, lambda entry: entry.id)
    assert [len(page) for page in entries] == [2] * 6
    assert [id_ for page in entries for id_ in page] == sorted((id_ for page in entries for id_ in page), reverse=True)
    assert await store.keys(None, None, Page(after="key_none")) == ([], False)


async def test_keys_are_listed_by_owner_the_ended_ones_too(office: Office) -> None:
    await office.do(AddKey(key=new_key(b"team", KeyKind.TEAM), account="acme"))
    await office.do(AddKey(key=new_key(b"admin", KeyKind.ADMIN)))
    await office.do(RevokeKey(id="key_one"))

    async def listed(*owner: str | None) -> set[str]:
        return {key.id for key in (await office.store.keys(*owner, PAGE))[0]}

    assert await listed(None, None) == {"key_one", "key_team", "key_admin"}
    assert await listed("acme", None) == {"key_one", "key_team"}
    assert await listed("acme", "ci") == {"key_one"}
    assert await listed("other", None) == set()


def filed(**more: Any) -> NewAccount:
    facts: dict[str, Any] = {"name": "acme", "plan": "pro", "billing": Billing.ACTIVE, "billing_day": 1}
    key = new_key(b"file")
    return NewAccount(**facts | more, projects=(NewProject(name="ci", keys=(key,)),))


async def test_whoever_changed_last_wins_field_by_field(office: Office) -> None:
    """A change by an administrator outlives a restart; an edit of the file takes effect."""
    store = office.store
    await store.provision([filed()])
    await office.do(ChangeAccount(name="acme", plan="max", billing_day=7))
    await store.provision([filed()])
    kept = await store.account("acme")
    assert (kept.plan, kept.billing, kept.billing_day) == ("max", Billing.ACTIVE, 7)
    await store.provision([filed(billing_day=9, billing=Billing.PAST_DUE)])
    kept = await store.account("acme")
    assert (kept.plan, kept.billing, kept.billing_day) == ("max", Billing.PAST_DUE, 9)


async def test_a_file_that_names_an_account_for_the_first_time_decides(office: Office) -> None:
    await office.do(ChangeAccount(name="acme", plan="max"))
    await office.store.provision([filed()])
    assert (await office.store.account("acme")).plan == "pro"


async def test_reading_the_same_file_again_writes_nothing(office: Office) -> None:
    await office.store.provision([filed()])
    log = await office.log()
    assert log[3:] == [("key.create", "key_file")]
    office.desk.clock.advance(100)
    await office.store.provision([filed()])
    assert await office.log() == log


async def test_what_the_file_does_is_noted_as_the_files(desk: Any) -> None:
    office = Office(desk)
    await office.store.provision([filed()])
    await office.store.provision([filed(plan="max")])
    await office.store.provision([])
    assert await office.log() == [
        ("account.create", "acme"),
        ("project.create", "acme/ci"),
        ("key.create", "key_file"),
        ("account.change", "acme"),
        ("key.revoke", "key_file"),
    ]
    assert (await office.last()).actor == "file"


async def test_a_key_of_the_file_keeps_its_id_and_its_last_use(desk: Any) -> None:
    office = Office(desk)
    await office.store.provision([filed()])
    await office.store.used("key_file")
    first = await office.store.key("key_file")
    desk.clock.advance(100)
    renamed = replace(filed().projects[0].keys[0], id="key_another", name="renamed")
    await office.store.provision([replace(filed(), projects=(NewProject(name="web", keys=(renamed,)),))])
    key = await office.store.key("key_file")
    assert (key.created_at, key.last_used_at) == (first.created_at, first.last_used_at)
    assert (key.name, key.project) == ("renamed", "web")
    assert await office.store.key("key_another") is None


async def test_a_key_that_the_file_names_again_works_again(desk: Any) -> None:
    office = Office(desk)
    for named, works in (([filed()], True), ([], False), ([filed()], True)):
        await office.store.provision(named)
        assert await office.works(b"file") is works


async def test_a_revoked_key_is_not_brought_back_by_the_file(office: Office) -> None:
    await office.do(RevokeKey(id="key_one"))
    key = new_key()
    await office.store.provision([replace(filed(), projects=(NewProject(name="ci", keys=(key,)),))])
    assert not await office.works()


async def test_what_the_file_names_is_changed_in_the_file(desk: Any) -> None:
    office = Office(desk)
    await office.store.provision([filed()])
    for command in (
        RemoveAccount(name="acme"),
        RemoveProject(account="acme", name="ci"),
        ChangeKey(id="key_file", name="x"),
        RotateKey(id="key_file", new_id="key_two", digest=b"two", last4="2222", overlap=60),
        RevokeKey(id="key_file"),
    ):
        with pytest.raises(NotAllowed, match="named by the configuration file"):
            await office.do(command)
    await office.store.provision([])
    await office.do(RemoveProject(account="acme", name="ci"))
    await office.do(RemoveAccount(name="acme"))
    assert await office.store.account("acme") is None


async def test_keys_made_in_another_way_outlive_the_file(office: Office) -> None:
    await office.store.provision([filed()])
    await office.store.provision([])
    assert await office.works(b"one")
    assert not await office.works(b"file")


async def test_a_key_stands_for_the_same_within_a_transaction_as_in_a_look_up(office: Office) -> None:
    """The ledger asks again where it writes: in between, the key may have ended."""
    store, now = office.store, office.desk.clock.now

    async def within() -> list[Any]:
        found = [await store._write(lambda book, id_=id_: book.caller(id_, now)) for id_ in ("key_one", "key_none")]
        return [*found, await store.find_key(b"one")]

    caller = await store.find_key(b"one")
    assert await within() == [caller, None, caller]
    await office.do(RevokeKey(id="key_one"))
    assert await within() == [None, None, None]
