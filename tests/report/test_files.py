"""Output folders and files: complete or absent; JSON that others can read."""

import json
import os
from pathlib import Path

import pytest

from intsim.errors import IntsimError
from intsim.report import files
from report.made import diverging


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


class BrokeError(Exception):
    """What goes wrong inside a block."""


def spoil(path: Path, error: type[BaseException]) -> None:
    path.write_text("half")
    raise error


def test_folder_is_made_with_its_parents(tmp_path):
    with files.folder(tmp_path / "a" / "b") as draft:
        (draft / "one").write_text("1")
        assert not (tmp_path / "a").exists()
        assert draft.parent == tmp_path
    assert names(tmp_path) == ["a", "a/b", "a/b/one"]


def test_folder_keeps_what_it_does_not_replace(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    (tmp_path / "out" / "one").write_text("old")
    with files.folder(tmp_path / "out") as draft:
        (draft / "one").write_text("new")
        assert (tmp_path / "out" / "one").read_text() == "old"
    assert names(tmp_path) == ["out", "out/mine", "out/one"]
    assert (tmp_path / "out" / "one").read_text() == "new"


@pytest.mark.parametrize("error", [BrokeError, KeyboardInterrupt, IntsimError])
@pytest.mark.parametrize("kind", [files.folder, files.file])
def test_a_failure_leaves_nothing(tmp_path, kind, error):
    (tmp_path / "old").write_text("old")
    path = tmp_path / "new" / "out" if kind is files.folder else tmp_path / "old"
    with pytest.raises(error), kind(path) as draft:
        spoil(draft / "half" if kind is files.folder else draft, error)
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_file_replaces_at_once(tmp_path):
    (tmp_path / "out.npz").write_text("old")
    with files.file(tmp_path / "out.npz") as draft:
        draft.write_text("new")
        assert draft.suffix == ".npz"
        assert (tmp_path / "out.npz").read_text() == "old"
    assert names(tmp_path) == ["out.npz"]
    assert (tmp_path / "out.npz").read_text() == "new"
    with files.file(tmp_path / "deep" / "er" / "x.json") as draft:
        draft.write_text("{}")
    assert (tmp_path / "deep" / "er" / "x.json").read_text() == "{}"


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with files.folder(Path("out")) as draft:
        (draft / "one").write_text("1")
    with files.file(Path("two")) as draft:
        draft.write_text("2")
    with files.folder(Path(".")) as draft:
        (draft / "three").write_text("3")
    assert names(tmp_path) == ["out", "out/one", "three", "two"]


def test_what_is_in_the_way_is_named_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    for kind, path in (
        (files.folder, tmp_path / "file"),
        (files.folder, tmp_path / "file" / "below"),
        (files.file, tmp_path / "file" / "below"),
        (files.file, tmp_path),
        (files.folder, Path("/proc/nowhere")),
        (files.file, Path("/proc/nowhere")),
        (files.file, Path("a\0b")),
    ):
        with pytest.raises(IntsimError) as found, kind(path):
            raise AssertionError("the work began")
        assert str(path) in str(found.value)
    assert names(tmp_path) == ["file"]


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "out" / "one").mkdir(parents=True)
    with pytest.raises(IntsimError, match="can't be written"), files.folder(tmp_path / "out") as draft:
        (draft / "one").write_text("1")
    assert names(tmp_path) == ["out", "out/one"]


def test_a_check_writes_nothing(tmp_path):
    (tmp_path / "old").write_text("old")
    files.check(tmp_path / "old")
    files.check(tmp_path / "new" / "one")
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    for path in (tmp_path, tmp_path / "old" / "below", Path("/proc/nowhere")):
        with pytest.raises(IntsimError):
            files.check(path)


def test_json(tmp_path):
    files.write_json(tmp_path / "v.json", diverging().to_json())
    text = (tmp_path / "v.json").read_text()
    assert text.endswith("\n")
    found = json.loads(text)
    assert found["layers"][1]["mismatches"] == 3
    assert os.linesep in text


def test_a_result_has_the_permissions_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with files.file(tmp_path / "result.txt") as draft:
        draft.write_text("done")
    assert (tmp_path / "result.txt").stat().st_mode == plain.stat().st_mode
