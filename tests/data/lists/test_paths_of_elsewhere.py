"""Lists and `.data` files that were written on another computer."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest

from darkpy.data.lists.image_list import open_list
from darkpy.data.lists.paths import read_image_list
from darkpy.data.lists.text_files import names_for, read_data
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.training.setup import backup_folder


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two files of a set, which a list of another computer names in its own way."""
    monkeypatch.chdir(tmp_path)
    Path("data/obj").mkdir(parents=True)
    for name in ("a", "b"):
        Path(f"data/obj/{name}.jpg").touch()
        Path(f"data/obj/{name}.txt").write_text("0 .5 .5 .2 .2\n")
    return tmp_path


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("/home/other/proj/data/obj/", "2 of 2 paths begin with /home/other/proj/, which is not on this computer"),
        ("C:\\Users\\me\\proj\\data\\obj\\", "2 of 2 paths begin with C:/Users/me/proj/"),
        ("D:/proj/data/obj/", "2 of 2 paths begin with D:/proj/"),
        ("data\\obj\\", "its paths have backslashes"),
        ("..\\..\\proj\\data\\obj\\", "2 of 2 paths begin with ../../proj/"),
        ("x64/data/obj/", "2 of 2 paths begin with x64/"),
    ],
)
def test_same_files_are_read_from_here_with_one_warning(start: str, said: str) -> None:
    Path("train.txt").write_text(f"{start}a.jpg\n{start}b.jpg\n")
    with pytest.warns(DarkpyWarning) as caught:
        files = read_image_list("train.txt")
    assert files == [Path("data/obj/a.jpg"), Path("data/obj/b.jpg")]
    assert len(caught) == 1 and said in str(caught[0].message)
    with pytest.warns(DarkpyWarning):
        assert len(open_list(Path("train.txt")).read_labels()) == 2


def test_quotes_around_paths_are_removed_with_one_warning() -> None:
    """Windows copies paths in quotes."""
    Path("train.txt").write_text('"data/obj/a.jpg"\n"data/obj/b.jpg"\n')
    with pytest.warns(DarkpyWarning, match="its paths are in quotes") as caught:
        assert read_image_list("train.txt") == [Path("data/obj/a.jpg"), Path("data/obj/b.jpg")]
    assert len(caught) == 1
    Path("obj.data").write_text("classes=1\ntrain=\"train.txt\"\nnames='obj.names'\n")
    with pytest.warns(DarkpyWarning) as caught:
        assert read_data("obj.data").entries == {"classes": "1", "train": "train.txt", "names": "obj.names"}
    assert [str(warning.message)[:26] for warning in caught] == [
        "obj.data:2: train= is in q",
        "obj.data:3: names= is in q",
    ]


def test_files_beside_the_list_are_found_from_anywhere(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    Path("data/train.txt").write_text("build/x64/data/obj/a.jpg\nother/c.jpg\n")
    Path("data/obj").rename("data/data")
    Path("elsewhere").mkdir()
    shutil.move("data/data", "data/obj")
    monkeypatch.chdir("elsewhere")
    with pytest.warns(DarkpyWarning, match="1 of 2 paths begin with build/x64/data/"):
        assert read_image_list(project / "data/train.txt") == [project / "data/obj/a.jpg", Path("other/c.jpg")]


def test_list_of_this_computer_stays_as_it_is() -> None:
    Path("train.txt").write_text("/nowhere/x.jpg\ndata/obj/a.jpg\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image_list("train.txt") == [Path("/nowhere/x.jpg"), Path("data/obj/a.jpg")]


def test_files_of_a_data_file_are_found_likewise() -> None:
    Path("data/obj.names").write_text("cat\n")
    Path("data/train.txt").write_text("data/obj/a.jpg\n")
    Path("obj.data").write_text("classes=1\ntrain=C:\\proj\\data\\train.txt\nnames=/home/other/data/obj.names\n")
    data = read_data("obj.data")
    with pytest.warns(DarkpyWarning, match="is not on this computer; data/train.txt is read"):
        assert data.find("train") == Path("data/train.txt")
    with pytest.warns(DarkpyWarning, match="is not on this computer; data/obj.names is read"):
        assert data.find_names() == Path("data/obj.names")


def test_home_in_a_data_file_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    """No shell replaces it there, and a folder of this name in the working directory is a trap for `rm`."""
    (project / "home").mkdir()
    monkeypatch.setenv("HOME", str(project / "home"))
    (project / "home/train.txt").write_text("data/obj/a.jpg\n")
    Path("obj.data").write_text("train=~/train.txt\nbackup=~/run\n")
    data = read_data("obj.data")
    assert data.find("train") == project / "home/train.txt"
    assert backup_folder(data) == project / "home/run" and not Path("~").exists()
    for home in ("~", "~/"):
        Path("home.data").write_text(f"train=~/train.txt\nbackup={home}\n")
        assert backup_folder(read_data("home.data")) == project / "home"
    Path("~").mkdir()
    assert data.find_folder("backup", "") == project / "home/run"


def test_files_of_a_data_file_may_have_backslashes() -> None:
    Path("data/train.txt").write_text("data/obj/a.jpg\n")
    Path("obj.data").write_text("train=data\\train.txt\n")
    with pytest.warns(
        DarkpyWarning, match=r"train=data\\train.txt has backslashes, as on Windows; data/train.txt is read"
    ):
        assert read_data("obj.data").find("train") == Path("data/train.txt")


def test_list_joined_of_two_computers_may_have_both_slashes() -> None:
    Path("train.txt").write_text("data/obj/a.jpg\ndata\\obj\\b.jpg\ndata\\obj\\gone.jpg\n")
    with pytest.warns(
        DarkpyWarning, match="train.txt: 1 of 3 paths have backslashes, as on Windows; they are read"
    ) as caught:
        files = read_image_list("train.txt")
    assert files == [Path("data/obj/a.jpg"), Path("data/obj/b.jpg"), Path("data\\obj\\gone.jpg")]
    assert len(caught) == 1


def test_folder_with_backslashes_is_made_with_slashes() -> None:
    Path("obj.data").write_text("backup = exp\\\n")
    assert backup_folder(read_data("obj.data")) == Path("exp") and Path("exp").is_dir()
    Path("obj.data").write_text("backup = runs\\second\\\n")
    assert backup_folder(read_data("obj.data")) == Path("runs/second")
    Path("obj.data").write_text("backup = C:\\exp\\\n")
    with pytest.raises(DarkpyError, match=r"is a path on a drive of Windows\n  hint: on WSL, /mnt/c/exp"):
        backup_folder(read_data("obj.data"))
    assert {path.name for path in Path().iterdir()} == {"data", "obj.data", "exp", "runs"}


@pytest.mark.parametrize(
    ("key", "meant"),
    [("validation", "valid"), ("val", "valid"), ("name", "names"), ("Train", "train"), ("backups", "backup")],
)
def test_misspelled_key_is_named(key: str, meant: str) -> None:
    Path("obj.data").write_text(f"classes=1\n{key}=x\n")
    with pytest.warns(DarkpyWarning, match=f"{key}= is ignored; did you mean {meant}="):
        read_data("obj.data")
    Path("obj.data").write_text("classes=1\ncolours=x\nauthor=me\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_data("obj.data")


def test_blank_line_among_the_names_is_reported_by_its_number() -> None:
    Path("obj.names").write_text("cat\n\ndog\n\n")
    with pytest.warns(DarkpyWarning, match=r"holds 3 names \(line 2 is blank\), the network has 2 classes"):
        names_for(2, "obj.names")
