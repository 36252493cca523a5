"""Whose a folder is: modes, owners, links and the sticky bit, on the way to it and of itself."""

import os
from pathlib import Path

import pytest

from intsim import ownership
from intsim.ownership import may_make, only_ours, ours

root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
SOMEBODY = 4321


@pytest.fixture
def place(tmp_path):
    """A folder in a folder, both the user's alone; what was judged before is forgotten."""
    ours.cache_clear()
    folder = tmp_path / "above" / "cache"
    folder.mkdir(parents=True)
    for path in (folder, folder.parent):
        path.chmod(0o755)
    yield folder
    ours.cache_clear()


def test_the_users_own(place):
    assert ours(place)
    place.chmod(0o700)
    ours.cache_clear()
    assert ours(place)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777, 0o722])
def test_a_folder_that_others_write_to(place, mode):
    place.chmod(mode)
    assert not ours(place)


@pytest.mark.parametrize(("mode", "safe"), [(0o777, False), (0o757, False), (0o1777, True), (0o755, True)])
def test_a_folder_on_the_way(place, mode, safe):
    """Others could put another folder in its place, except where the sticky bit keeps them from it."""
    place.parent.chmod(mode)
    assert ours(place) == safe
    assert may_make(place / "new" / "newer") == safe
    assert may_make(place.parent / "new" / "newer") == safe


@pytest.mark.parametrize("private", [True, False])
def test_a_group(place, monkeypatch, private):
    """The user's own group is the user; another one is others."""
    monkeypatch.setattr(ownership, "private_group", lambda group: private)
    place.chmod(0o775)
    assert ours(place) == private
    assert only_ours(os.stat(place)) == private


def test_groups(monkeypatch):
    import grp
    import pwd
    from types import SimpleNamespace

    def private(group: int = 1000, name: str = "ann", members: tuple[str, ...] = ()) -> bool:
        ownership.private_group.cache_clear()
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="ann", pw_gid=1000))
        monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name=name, gr_mem=list(members)))
        found = ownership.private_group(group)
        ownership.private_group.cache_clear()
        return found

    assert private()
    assert private(members=("ann",))
    assert not private(members=("ann", "bob"))
    assert not private(name="users")
    assert not private(group=1001)
    assert not private(group=0, name="ann")


@root_only
@pytest.mark.parametrize("which", ["cache", "above"])
def test_somebody_elses(place, which):
    os.chown(place if which == "cache" else place.parent, SOMEBODY, SOMEBODY)
    assert not ours(place)


def test_nothing_and_no_folder(place):
    assert not ours(place / "missing")
    (place / "file").touch()
    assert not ours(place / "file")
    assert not may_make(place / "file" / "below")


def test_a_relative_path(place, monkeypatch):
    monkeypatch.chdir(place.parent)
    assert not ours(Path("cache"))
    assert not may_make(Path("new"))


@pytest.mark.parametrize("target", ["../cache", "absolute"])
def test_links(place, target):
    """A link is followed; both ends and all between are looked at."""
    (place.parent / "links").mkdir(mode=0o755)
    link = place.parent / "links" / "link"
    link.symlink_to(place if target == "absolute" else target)
    assert ours(link)
    ours.cache_clear()
    place.chmod(0o777)
    assert not ours(link)
    ours.cache_clear()
    place.chmod(0o755)
    link.parent.chmod(0o777)
    assert not ours(link)
    assert ours(place)


@root_only
def test_somebodys_link_in_a_sticky_folder(place):
    place.parent.chmod(0o1777)
    link = place.parent / "link"
    link.symlink_to(place)
    assert ours(link)
    ours.cache_clear()
    os.lchown(link, SOMEBODY, SOMEBODY)
    assert not ours(link)


def test_links_in_a_circle(place):
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    assert not ours(place / "a")


def test_a_file(place):
    path = place / "file"
    path.touch()
    for mode, safe in ((0o600, True), (0o644, True), (0o666, False), (0o646, False)):
        path.chmod(mode)
        assert only_ours(os.stat(path)) == safe


def test_a_system_without_owners(place, monkeypatch):
    monkeypatch.delattr(os, "getuid")
    place.chmod(0o777)
    assert ours(place)
    assert only_ours(os.stat(place))
    ours.cache_clear()
    assert not ours(Path("cache"))
