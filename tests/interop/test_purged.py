"""Studies whose headers were purged, from C-STORE to folder and server, with the state in a file and in PostgreSQL."""

from __future__ import annotations

import pytest

from tests.notes import images, note
from tests.servers.stub import Stub

UID = "2.999.1"
ALL = [f"2.999.1.1.{number}" for number in (1, 2, 3)]


@pytest.fixture
def send(dcmtk):
    def send_folder(running, folder):
        dcmtk("storescu", "-xe", "+sd", "127.0.0.1", running.port, folder)

    return send_folder


@pytest.fixture
def stub():
    with Stub() as server:
        yield server


@pytest.fixture(params=["file", "postgres"])
def purged(request, daemon, send, tmp_path, stub):
    """A daemon that published three images to a folder and a server, and whose state holds no header of them."""
    options = []
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url()
        options = ["--state", url, "--journal", str(tmp_path / "journal")]
    running = daemon("--to", stub.base, *options)
    if options:
        running.state = url
    send(running, images(tmp_path / "a", 1, 2, 3))
    running.until(lambda: stub.studies() and delivered(running))
    assert "purged: 1 studies, 3 instances" in running.studies("purge", "--older-than", "0s")
    return running


def delivered(running):
    return state(running) == ("published", "", "delivered")


def state(running):
    """(state, reason, delivery) of the study, as `studies list` says."""
    (line,) = [x for x in running.studies("list").splitlines() if x.startswith(f"{UID}\t")]
    columns = line.split("\t")
    return columns[1], columns[5], columns[7]


def listed(study):
    return [i["uid"] for s in study.get("series", []) for i in s["instance"]]


def there(running, stub):
    """What the folder and what the server lists of the study."""
    return [[listed(one) for one in place()] for place in (running.resources, stub.studies)]


def lose(running, stub):
    """Both destinations lose what they have."""
    for path in running.out.rglob("*.json"):
        path.unlink()
    stub.store.versions.clear()


def test_a_purged_study_that_was_taken_back_comes_back_when_it_is_sent_again(
    purged, send, tmp_path, stub
):
    purged.studies("exclude", UID)
    purged.until(lambda: there(purged, stub) == [[[]], [[]]])
    said = purged.studies("include", UID)
    assert "headers were purged of 3 instances" in said
    purged.until(lambda: state(purged)[:2] == ("held", "headers-purged"))
    assert [one["status"] for one in (*purged.resources(), *stub.studies())] == ["cancelled"] * 2
    send(purged, tmp_path / "a")
    purged.until(lambda: there(purged, stub) == [[ALL], [ALL]])
    purged.until(lambda: delivered(purged))
    purged.until(lambda: purged.metric('instances_total{kind="restored"}') == 3)
    assert [one["status"] for one in (*purged.resources(), *stub.studies())] == ["available"] * 2
    purged.end()


def test_a_purged_study_is_not_published_again_from_nothing(purged, send, tmp_path, stub):
    lose(purged, stub)
    asked = len(stub.requests())
    said = purged.studies("republish", UID, code=2)
    assert "its headers were purged: send it again" in said
    send(purged, images(tmp_path / "other", 1, StudyInstanceUID="2.999.2"))
    purged.until(lambda: "2.999.2\tpublished" in purged.studies("list"))
    said = purged.studies("republish", "--all")
    assert "studies to be published again: 1" in said
    assert "not published again: 1, their headers were purged: send them again" in said
    purged.until(lambda: "2.999.2\tpublished\t2\t2" in purged.studies("list"))
    assert state(purged) == ("published", "", "delivered")
    assert [len(place()) for place in (purged.resources, stub.studies)] == [1, 1]
    assert not any("urn:oid:," in str(one.query) for one in stub.requests()[asked:])
    send(purged, tmp_path / "a")
    purged.until(lambda: all(ALL in place for place in there(purged, stub)))
    purged.end()


def test_a_part_that_comes_again_shrinks_nothing_even_where_the_rest_was_lost(
    purged, send, tmp_path, stub
):
    lose(purged, stub)
    send(purged, images(tmp_path / "b", 2))
    purged.until(lambda: there(purged, stub) == [[ALL], [ALL]])
    purged.until(lambda: delivered(purged))
    assert "studies to be published again: 1" in purged.studies("republish", UID)
    purged.until(lambda: state(purged) == ("published", "", "delivered"))
    assert there(purged, stub) == [[ALL], [ALL]]
    assert all(one["subject"]["identifier"]["value"] == "P1" for one in stub.studies())
    purged.end()


def test_a_note_after_a_purge_takes_back_what_it_names_and_no_more(purged, send, tmp_path, stub):
    send(purged, note(tmp_path / "note", 2))
    purged.until(lambda: there(purged, stub) == [[[ALL[0], ALL[2]]]] * 2)
    purged.until(lambda: delivered(purged))
    assert [one["status"] for one in (*purged.resources(), *stub.studies())] == ["available"] * 2
    send(purged, images(tmp_path / "late", 4, 2))
    kept = [ALL[0], ALL[2], "2.999.1.1.4"]
    purged.until(lambda: there(purged, stub) == [[kept], [kept]])
    send(purged, note(tmp_path / "all", 1, 2, 3, 4, number=2))
    purged.until(lambda: there(purged, stub) == [[[]], [[]]])
    purged.until(lambda: state(purged)[:2] == ("excluded", "rejected"))
    purged.end()


def test_a_study_with_a_note_that_is_purged_stays_published_and_rejects_what_comes_again(
    purged, send, tmp_path, stub
):
    kept = [ALL[0], ALL[2]]
    send(purged, note(tmp_path / "note", 2))
    purged.until(lambda: there(purged, stub) == [[kept], [kept]])
    send(purged, tmp_path / "a")
    purged.until(lambda: delivered(purged) and "headers purged\t0" in purged.studies("show", UID))
    purged.until(lambda: delivered(purged))
    assert "purged: 1 studies, 3 instances" in purged.studies("purge", "--older-than", "0s")
    purged.studies("republish", UID, code=2)
    assert "not published again: 1" in purged.studies("republish", "--all")
    assert delivered(purged)
    send(purged, tmp_path / "a")
    purged.until(lambda: "headers purged\t0" in purged.studies("show", UID))
    purged.until(lambda: delivered(purged))
    assert there(purged, stub) == [[kept], [kept]]
    purged.end()
