"""The kind of file system that holds a path is read from the table of mounts."""

from __future__ import annotations

from converter.mounts import filesystem, lies_on


def test_a_file_system_is_known_by_its_mount():
    mounts = (
        "/dev/sda1 / ext4 rw 0 0\n"
        "srv:/x /srv/my\\040share nfs4 rw 0 0\n"
        "tmpfs /srv/my\\040share/local tmpfs rw 0 0\n"
    )
    assert filesystem("/srv/my share/a.db", mounts) == "nfs4"
    assert filesystem("/srv/my share/local/a.db", mounts) == "tmpfs"
    assert filesystem("/srv/my sharef", mounts) == "ext4"
    assert filesystem("/a", "") == ""


def test_this_machine_says_where_a_path_lies():
    assert lies_on("/proc/self/status") == "proc"
