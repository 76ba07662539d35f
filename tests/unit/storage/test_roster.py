"""Which data directories the nodes of a region are known by."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.storage.directory import LOG_DIRECTORY, ROSTER_FILE, open_directory
from node.storage.port import WrongFormat
from node.storage.roster import Roster

VOTERS = ("a", "b", "c")


class Disk:
    def __init__(self) -> None:
        self.data = b""
        self.saves = 0

    def save(self, data: bytes) -> None:
        self.data = data
        self.saves += 1


def roster(disk: Disk, since: int | None = None) -> Roster:
    return Roster("a", 100, disk.save, since)


def test_a_directory_is_trusted_once_every_other_voter_says_that_it_knew_no_other_one() -> None:
    one = roster(Disk())
    assert one.meet("b", 200, 0)
    assert not one.trusted(3, VOTERS)
    assert one.meet("c", 300, 100)
    assert one.trusted(3, VOTERS)
    assert not one.trusted(3, ("a", "b", "d"))


def test_one_word_of_another_directory_is_enough_for_distrust() -> None:
    one = roster(Disk())
    one.meet("b", 200, 0)
    assert not one.meet("c", 300, 77)
    assert not one.trusted(0, VOTERS)


def test_partitions_made_since_the_directory_is_in_use_are_trusted_without_a_word() -> None:
    one = roster(Disk())
    one.settle(12)
    one.settle(5)  # the first answer stands
    assert one.trusted(12, VOTERS)
    assert not one.trusted(11, VOTERS)


def test_a_peer_is_known_by_its_first_directory_for_ever() -> None:
    """Whatever comes after it is another one: what the first one promised may have counted."""
    disk = Disk()
    one = roster(disk)
    assert one.known("b") == 0
    one.meet("b", 200, 0)
    one.meet("b", 201, 0)
    assert one.known("b") == 200
    assert disk.saves == 1


def test_what_is_known_is_durable_and_read_again() -> None:
    disk = Disk()
    one = roster(disk)
    one.meet("b", 200, 0)
    one.meet("c", 300, 9)
    one.settle(4)
    again = Roster.read("a", disk.data, disk.save)
    assert (again.directory, again.since) == (100, 4)
    assert (again.known("b"), again.known("c")) == (200, 300)
    assert again.trusted(0, ("a", "b"))
    assert not again.trusted(0, VOTERS)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"format": 2}', b'{"format": 1, "directory": 1}'])
def test_what_is_no_roster_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError):
        Roster.read("a", damage, Disk().save)


# --- in its directory ---------------------------------------------------------------------------------------


def opened(path: Path, incarnation: int) -> Roster:
    directory = open_directory(path, "cluster", "a", incarnation_min=incarnation)
    directory.close()
    return directory.roster


def write_log(path: Path) -> None:
    (path / LOG_DIRECTORY).mkdir(exist_ok=True)
    (path / LOG_DIRECTORY / "1").write_bytes(b"")


def test_a_directory_keeps_its_number_and_an_emptied_one_has_another(tmp_path: Path) -> None:
    path = tmp_path / "n"
    assert opened(path, 10).directory == 10
    write_log(path)
    assert opened(path, 20).directory == 10
    path.rename(tmp_path / "away")
    assert opened(path, 30).directory == 30


def test_a_directory_that_lost_its_log_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "n"
    opened(path, 10)
    write_log(path)
    opened(path, 20).settle(3)
    (path / LOG_DIRECTORY / "1").unlink()
    lost = opened(path, 30)
    assert (lost.directory, lost.since) == (30, None)


def test_a_directory_made_before_there_were_rosters_is_trusted(tmp_path: Path) -> None:
    path = tmp_path / "n"
    opened(path, 10)
    write_log(path)
    (path / ROSTER_FILE).unlink()
    assert opened(path, 20).trusted(0, VOTERS)


def test_a_damaged_roster_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n"
    opened(path, 10)
    write_log(path)
    (path / ROSTER_FILE).write_bytes(b"{")
    with pytest.raises(WrongFormat, match="ROSTER is not readable"):
        opened(path, 20)
