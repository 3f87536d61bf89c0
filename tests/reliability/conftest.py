"""Daemons for the acceptance matrix, and objects to send to them."""

from __future__ import annotations

import pytest

from tests.listener.daemon_process import Daemon


@pytest.fixture
def daemon(tmp_path):
    """Start daemons; what is still there at the end is killed."""
    started = []

    def start(*options, folder=tmp_path, **given):
        folder.mkdir(exist_ok=True)
        made = Daemon(folder, *options, **given)
        started.append(made)
        return made.ready()

    yield start
    for made in started:
        made.kill()


@pytest.fixture
def instance(make_dicom):
    """A data set and its SOP Instance UID."""

    def make_one(study, number=1, **attributes):
        uid = f"{study}.1.{number}"
        whole = make_dicom(study=study, sop=uid, number=str(number), **attributes)
        return whole[144 + int.from_bytes(whole[140:144], "little") :], uid

    return make_one
