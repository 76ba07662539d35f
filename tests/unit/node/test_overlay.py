from node.overlay import Overlay
from node.storage.port import Row


def row(text: str) -> Row:
    return Row(text.encode(), b"v", len(text))


def test_the_newest_image_is_seen_by_evaluation_and_the_committed_one_by_reads() -> None:
    overlay = Overlay()
    overlay.put(b"k", 5, row("old"))
    overlay.put(b"k", 6, row("new"))
    newest = overlay.newest(b"k")
    committed = overlay.committed(b"k", 5)
    assert newest is not None
    assert newest.row == row("new")
    assert committed is not None
    assert committed.row == row("old")
    assert overlay.committed(b"k", 4) is None


def test_the_last_image_of_one_entry_wins() -> None:
    overlay = Overlay()
    overlay.put(b"k", 5, row("first"))
    overlay.put(b"k", 5, None)
    newest = overlay.newest(b"k")
    assert newest is not None
    assert newest.row is None


def test_applied_images_leave_and_later_ones_stay() -> None:
    overlay = Overlay()
    overlay.put(b"k", 5, row("a"))
    overlay.put(b"k", 7, row("b"))
    overlay.applied(b"k", 5)
    newest = overlay.newest(b"k")
    assert newest is not None
    assert newest.index == 7
    overlay.applied(b"k", 7)
    assert overlay.newest(b"k") is None
    assert len(overlay) == 0
