"""What the store of one run does otherwise than a kept one."""

from __future__ import annotations

import random
import stat

import pytest

from converter.store import Converted, open_temporary, temporary


@pytest.mark.parametrize("at_once", [1, 7, 50, 1000])
def test_instances_of_several_studies_are_found_however_many_are_compared_at_once(
    monkeypatch, at_once
):
    monkeypatch.setattr(temporary, "AT_ONCE", at_once)
    dice = random.Random(1)
    common = [dice.randrange(-(2**63), 2**63) for _ in range(5)]
    studies = {
        f"1.{number}": {dice.randrange(-(2**63), 2**63) for _ in range(10)}
        | set(dice.sample(common, 2))
        for number in range(2, 9)
    }
    store = open_temporary()
    store.begin_run()
    store.save(
        [
            Converted(uid, "converted", b"{}", [], [], 1, 12, [], [], list(sops))
            for uid, sops in studies.items()
        ]
    )
    held = list(studies.values())
    twice = {sop for sop in common if sum(sop in sops for sops in held) > 1}
    assert twice
    assert list(store.shared()) == [(uid, sops & twice) for uid, sops in studies.items()]
    store.close()


def test_its_files_are_private(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    store = open_temporary()
    store.begin_run()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    store.close()
    (folder,) = (name for name in modes if name.startswith("dcm2fhir-"))
    assert modes.pop(folder) == 0o700
    assert "store.db" in modes
    assert set(modes.values()) == {0o600}
    assert not list(tmp_path.iterdir())
