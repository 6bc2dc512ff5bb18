"""`.data` files."""

from __future__ import annotations

import warnings
from pathlib import Path

import PIL.Image
import pytest

from darkpy.__main__ import main
from darkpy.data.lists.text_files import DataFile, read_data
from darkpy.errors import DarkpyError, DarkpyWarning


def write(folder: Path, text: str) -> Path:
    path = folder / "x.data"
    path.write_bytes(text.encode())
    return path


def test_keys_and_values_lose_blanks_and_returns_around_them_and_keep_those_inside(tmp_path: Path) -> None:
    path = write(tmp_path, "# a comment\r\n; another\r\n\r\nclasses= 2\r\n\tnames = my pets/x.names \r\nvalid =a=b\r\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_data(path).entries == {"classes": "2", "names": "my pets/x.names", "valid": "a=b"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("names=a\nnames=b\n", r"x.data:2: 'names' was given before; the first value counts"),
        ("names=a\nvalid=\n", r"x.data:2: 'valid' has no value"),
        ("names=a\nvalid\n", r"x.data:2: 'valid' has no value"),
    ],
)
def test_line_that_says_nothing_is_warned_of(tmp_path: Path, text: str, told: str) -> None:
    with pytest.warns(DarkpyWarning, match=told):
        assert read_data(write(tmp_path, text)).entries == {"names": "a"}


def test_cfg_is_no_data_file(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match=r"x.data:1: '\[net\]' makes it a cfg") as caught:
        read_data(write(tmp_path, "[net]\nbatch=1\n"))
    assert "CFG DATA WEIGHTS for darkpy's own commands, DATA CFG WEIGHTS for darknet's" in str(caught.value.hint)


def test_list_is_no_data_file_however_long_it_is(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DarkpyError, match=r"x.data: is not a .data file: no line has the form key=value") as caught:
            read_data(write(tmp_path, "".join(f"img/{number}.jpg\n" for number in range(1000))))
        assert "train=train.txt" in str(caught.value.hint)
        assert read_data(write(tmp_path, "# a comment\n\n")).entries == {}


def test_folder_is_no_data_file_and_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match=r"is a folder, not a \.data file") as caught:
        read_data(tmp_path)
    assert f"darkpy dataset from-yolo {tmp_path} DIR" in str(caught.value.hint)


def test_yaml_of_ultralytics_is_no_data_file_and_the_way_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("train: train\nnames: [cat]\n")
    with pytest.raises(DarkpyError, match="is a YAML file") as caught:
        read_data(path)
    for number in range(2):
        image = tmp_path / f"train/images/{number}.png"
        image.parent.mkdir(exist_ok=True, parents=True)
        PIL.Image.new("RGB", (8, 8)).save(image)
        (tmp_path / "train/labels").mkdir(exist_ok=True)
        (tmp_path / f"train/labels/{number}.txt").write_text("0 .5 .5 .5 .5\n")
    words = str(caught.value.hint).split(" writes ")[0].replace("DIR", str(tmp_path / "new")).split()
    assert main(words[1:]) == 0
    (data,) = (tmp_path / "new").glob("*.data")
    assert read_data(data).find("train")


def test_file_is_looked_for_in_the_working_directory_then_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data = DataFile(tmp_path / "x.data", {"names": "x.names"})
    assert data.find("names") == Path("x.names"), "as it is written where it is nowhere"
    (tmp_path / "x.names").touch()
    assert data.find("names") == tmp_path / "x.names"
    (tmp_path / "here" / "x.names").touch()
    assert data.find("names") == Path("x.names")
    assert data.find("valid") is None


def test_missing_names_are_darknets_default_if_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = read_data(write(tmp_path, "classes=2\n"))
    with pytest.warns(DarkpyWarning, match=r"has no names=; darknet's default, data/names.list, does not exist"):
        assert data.find_names() is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "names.list").touch()
    with pytest.warns(DarkpyWarning, match=r"data/names.list is used"):
        assert data.find_names() == Path("data/names.list")
