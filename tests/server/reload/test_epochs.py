"""When a replaced provider can be closed: not before whoever may use it has ended, and then at once."""

from __future__ import annotations

from tests.server.fakes import ScriptedProvider

from flatfee.server.reload.epochs import Epochs

A, B, C = ScriptedProvider(), ScriptedProvider(), ScriptedProvider()


def test_without_requests_what_is_replaced_is_let_go_at_once() -> None:
    epochs = Epochs()
    assert list(epochs.replace([A])) == [A]
    assert len(epochs) == 1


def test_what_a_request_began_with_waits_for_it() -> None:
    epochs = Epochs()
    request = epochs.begin()
    assert list(epochs.replace([A])) == []
    later = epochs.begin()
    assert list(epochs.end(later)) == []
    assert list(epochs.end(request)) == [A]
    assert len(epochs) == 1


def test_what_came_after_a_request_began_waits_for_it_too() -> None:
    """It may take its providers at any moment of its life."""
    epochs = Epochs()
    request = epochs.begin()
    epochs.replace([A])
    assert list(epochs.replace([B])) == []
    assert sorted(map(id, epochs.end(request))) == sorted(map(id, [A, B]))


def test_the_last_of_several_lets_go() -> None:
    epochs = Epochs()
    first, second = epochs.begin(), epochs.begin()
    epochs.replace([A])
    assert list(epochs.end(first)) == []
    assert list(epochs.end(second)) == [A]


def test_a_later_request_does_not_keep_what_was_gone_before_it_began() -> None:
    epochs = Epochs()
    first = epochs.begin()
    epochs.replace([A])
    second = epochs.begin()
    epochs.replace([B])
    assert list(epochs.end(first)) == [A]
    assert list(epochs.end(second)) == [B]


def test_there_are_never_more_epochs_than_requests_that_run_and_one() -> None:
    epochs = Epochs()
    long = epochs.begin()
    for _ in range(100):
        short = epochs.begin()
        epochs.replace([A])
        epochs.end(short)
        assert len(epochs) <= 2
    assert len(list(epochs.end(long))) == 100


def test_at_the_end_all_that_waits_is_told_once() -> None:
    epochs = Epochs()
    request = epochs.begin()
    epochs.replace([A])
    epochs.begin()
    epochs.replace([B, C])
    assert epochs.abandon() == [A, B, C]
    assert epochs.abandon() == []
    assert list(epochs.end(request)) == []
