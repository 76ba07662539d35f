"""What leaders answer about the digests of their rows, and rows that are written anew."""

from __future__ import annotations

from pathlib import Path

from geodyne.messages import Applied, Digested, DigestRows, Found, Renew
from geodyne.model import version as versions
from geodyne.sim.scene import PK, Scene, play

ALL = b"", b"\xff" * 9


def test_the_sum_over_parts_is_the_digest_of_the_whole_and_lists_name_every_row(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(12):
            await scene.items.put(f"{PK}{number}", "x" * number)
        await scene.settle()
        leader, epoch = scene.leader, 1
        whole = await _digested(scene, DigestRows(scene.partition, epoch, *ALL))
        listed = await _digested(scene, DigestRows(scene.partition, epoch, *ALL, True))
        assert whole.rows == len([row for row in listed.listed if row.digest]) == listed.rows > 0
        assert sum(int.from_bytes(row.digest, "big") for row in listed.listed) % (1 << 128) == int.from_bytes(
            whole.digest, "big"
        )
        middle = listed.listed[len(listed.listed) // 2].key
        parts = [
            await _digested(scene, DigestRows(scene.partition, epoch, low, high))
            for low, high in ((b"", middle), (middle, ALL[1]))
        ]
        assert sum(int.from_bytes(part.digest, "big") for part in parts) % (1 << 128) == int.from_bytes(
            whole.digest, "big"
        )
        assert leader is scene.leader

    play(tmp_path, scenario)


def test_a_row_is_written_anew_once_and_only_while_it_is_as_it_was_seen(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.items.put(PK, "x")
        await scene.settle()
        (row,) = (await _digested(scene, DigestRows(scene.partition, 1, *ALL, True))).listed
        before = scene.leader.ask(scene.get())
        first = scene.leader.ask(Renew(scene.partition, 1, (row,)))
        again = scene.leader.ask(Renew(scene.partition, 1, (row,)))
        await scene.here.run_for(0.3)
        assert (first, again) == ([Applied(1)], [Applied(0)])
        (renewed,) = (await _digested(scene, DigestRows(scene.partition, 1, *ALL, True))).listed
        assert renewed.version > row.version
        assert versions.region(renewed.version) == scene.here.name
        after = scene.leader.ask(scene.get())
        await scene.here.run_for(0.3)
        assert isinstance(after[0], Found)
        assert after == before

    play(tmp_path, scenario)


async def _digested(scene: Scene, call: DigestRows) -> Digested:
    answers = scene.leader.ask(call)
    await scene.here.run_for(0.3)
    assert isinstance(answers[0], Digested)
    return answers[0]
