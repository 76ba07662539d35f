"""Histories that are and are not strictly serializable, each as small as it can be."""

import pytest

from geodyne.checkers.serializability import FOREVER, Outcome, Transaction, check

C, X, U = Outcome.COMMITTED, Outcome.CANCELLED, Outcome.UNKNOWN


def wrote(start, end, value, *keys, reads=None, lengths=None, outcome=C):
    return Transaction(start, end, outcome, value, keys, reads or {}, lengths or {})


def read(start, end, **lists):
    return Transaction(start, end, C, reads={key: tuple(values) for key, values in lists.items()})


def test_transactions_one_after_the_other_are_serializable():
    history = [wrote(0, 1, "a", "x", "y"), wrote(2, 3, "b", "x"), read(4, 5, x="ab", y="a")]
    assert check(history, {"x": "ab", "y": "a"}) == []


def test_concurrent_transactions_may_take_either_order():
    history = [wrote(0, 9, "a", "x"), wrote(0, 9, "b", "x"), read(0, 9, x="b"), read(0, 9, x="")]
    assert check(history, {"x": "ba"}) == []


def test_half_a_transaction_that_is_read_is_seen():
    history = [wrote(0, 9, "a", "x", "y"), read(1, 2, x="a", y="")]
    assert check(history, {"x": "a", "y": "a"})[0] == "not serializable:"


def test_reads_of_two_items_that_contradict_each_other_in_time_are_seen():
    history = [wrote(0, 9, "a", "x", "y"), read(1, 2, x="a"), read(3, 4, y="")]
    assert check(history, {"x": "a", "y": "a"})[0] == "not serializable:"


def test_a_read_of_the_past_is_seen():
    history = [wrote(0, 1, "a", "x"), read(2, 3, x="")]
    assert check(history, {"x": "a"}) != []


def test_write_skew_on_conditions_is_seen():
    history = [wrote(0, 9, "a", "x", lengths={"y": 0}), wrote(0, 9, "b", "y", lengths={"x": 0})]
    assert check(history, {"x": "a", "y": "b"}) != []


def test_one_of_two_that_depend_on_each_other_may_win():
    history = [wrote(0, 9, "a", "x", lengths={"y": 0}), wrote(0, 9, "b", "y", lengths={"x": 0}, outcome=X)]
    assert check(history, {"x": "a", "y": ""}) == []


def test_orders_that_differ_between_items_are_seen():
    history = [wrote(0, 9, "a", "x", "y"), wrote(0, 9, "b", "x", "y")]
    assert check(history, {"x": "ab", "y": "ba"}) != []


@pytest.mark.parametrize(
    ("history", "final"),
    [
        ([wrote(0, 1, "a", "x", "y")], {"x": "a", "y": ""}),
        ([wrote(0, 1, "a", "x")], {"x": ""}),
        ([wrote(0, 1, "a", "x", outcome=X)], {"x": "a"}),
        ([wrote(0, FOREVER, "a", "x", "y", outcome=U)], {"x": "a", "y": ""}),
        ([wrote(0, 1, "a", "x")], {"x": "aa"}),
        ([wrote(0, 1, "a", "x")], {"x": "ab"}),
        ([wrote(0, 1, "a", "x"), read(2, 3, x="b")], {"x": "a"}),
    ],
    ids=["half", "lost", "cancelled", "unknown half", "twice", "stranger", "never was"],
)
def test_what_did_not_happen_as_told_is_seen(history, final):
    assert check(history, final) != []


def test_an_unknown_transaction_may_have_happened_or_not():
    unknown = wrote(0, FOREVER, "a", "x", "y", outcome=U)
    assert check([unknown], {"x": "", "y": ""}) == []
    assert check([unknown, read(50, 60, x="a", y="a")], {"x": "a", "y": "a"}) == []


def test_an_unknown_transaction_happens_after_its_call():
    assert check([wrote(5, FOREVER, "a", "x", outcome=U), read(0, 1, x="a")], {"x": "a"}) != []


def test_a_transaction_that_ends_before_it_starts_is_no_history():
    with pytest.raises(ValueError, match="before it starts"):
        check([wrote(2, 1, "a", "x")], {"x": "a"})
