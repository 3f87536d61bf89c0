"""What the tests of delivery share: a stub server, and a state with studies to send to it."""

from __future__ import annotations

from types import SimpleNamespace

import orjson
import pytest

from converter.delivery.clock import Clock
from converter.delivery.job import Policy
from converter.delivery.rendering import StoreRenderer
from converter.delivery.sender import Sender, Timing
from converter.delivery.target import Target
from converter.store import Converted, open_beside, open_kept, place_of
from tests.delivery.made import client, patient, series, study
from tests.servers.stub import Stub

RECIPE = SimpleNamespace(fingerprint="made", rules=None, options=None)


@pytest.fixture
def stub():
    with Stub() as server:
        yield server


class Box:
    """A state, its outbox, and senders over it."""

    def __init__(self, path):
        self.path = path
        self.store = open_kept(path)
        self.store.begin_converting("made")
        self.clients = []

    @property
    def outbox(self):
        return self.store.outbox

    def convert(self, uid, *listed, person=None, companions=None, **more):
        """Put a study into the store as its conversion would stand there."""
        person = person or patient(uid.rpartition(".")[2])
        about = {"reference": f"Patient/{person['id']}", "type": "Patient", "identifier": person["identifier"][0]}  # fmt: skip
        listed = listed or ({**series(1, 1, 2), "uid": f"{uid}.1"},)
        body = study(*listed, uid=uid, subject=about, **more)
        named = [("Patient", person["id"], orjson.dumps(person))]
        self.store.save(
            [Converted(uid, "converted", orjson.dumps(body), [], [], len(listed), 1, named, [])]
        )
        return body

    def fill(self, count, base, *, now=0.0, first=1):
        uids = [f"1.2.3.{number}" for number in range(first, first + count)]
        for uid in uids:
            self.convert(uid)
        self.outbox.enqueue([base], now, uids)
        return uids

    def sender(
        self, *bases, clock=None, policy=None, timing=None, workers=8, store=None, **settings
    ):
        """Make a sender; ``settings`` are those of the destination, ``timeout`` among them."""
        more = {name: settings.pop(name) for name in ("timeout",) if name in settings}
        clients = [client(base, connections=workers, **more, **settings) for base in bases]
        self.clients += clients
        targets = [
            Target(base, speaker, policy or Policy())
            for base, speaker in zip(bases, clients, strict=True)
        ]
        held = store or self.store
        return Sender(
            held.outbox,
            StoreRenderer(held, lambda _: RECIPE),
            targets,
            workers=workers,
            timing=timing or Timing(),
            clock=clock or Clock(),
        )

    def beside(self):
        return open_beside(self.path)

    def states(self, base):
        return [state for _, _, state, _ in self.outbox.states([base])]


@pytest.fixture(params=["file", "server"])
def box(request, tmp_path):
    if request.param == "file":
        made = Box(tmp_path / "state.db")
    else:
        made = Box(place_of(request.getfixturevalue("postgres").url()))
    yield made
    for speaker in made.clients:
        speaker.close()
    made.store.close()
