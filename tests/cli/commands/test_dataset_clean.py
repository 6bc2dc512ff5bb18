"""`darkpy dataset clean`: files that are moved, files that stay, and --undo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run

BOX = "0 .5 .5 .5 .5\n"


def put(name: str, text: str | None = BOX, *, seed: int = 0, folder: str = "set", ending: str = "png") -> Path:
    """An image whose content follows from the seed, with its labels."""
    path = Path(folder, f"{name}.{ending}")
    path.parent.mkdir(exist_ok=True)
    Image.effect_mandelbrot((80, 80), (-2 + seed / 20, -1.5, 1, 1.5), 40 + seed).convert("RGB").save(path)
    if text is not None:
        path.with_suffix(".txt").write_text(text)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train = [put(f"t{seed}", seed=seed) for seed in range(8)]
    valid = [put(f"v{seed}", seed=20 + seed) for seed in range(3)]
    write_lists(train, valid)


def write_lists(train: list[Path], valid: list[Path], more: str = "") -> None:
    for name, files in (("train", train), ("valid", valid)):
        Path(f"{name}.list").write_text("".join(f"{file}\n" for file in files))
    Path("my.data").write_text(f"classes=2\ntrain=train.list\nvalid=valid.list\n{more}")


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


def spoil() -> None:
    """Plant a fault of each kind."""
    train = [Path(line) for line in Path("train.list").read_text().split()]
    valid = [Path(line) for line in Path("valid.list").read_text().split()]
    train[1].write_bytes(b"no image")
    train[2].unlink()
    Path("set/copy.png").write_bytes(train[0].read_bytes())
    Path("set/copy.txt").write_text(BOX)
    train[3].with_suffix(".txt").write_text(f"{BOX}5 .5 .5 .1 .1\n{BOX}\n1 .2 .2 .1 .1\n0 .5\n")
    Image.open(train[4]).save("set/leak.jpg", quality=90)
    Path("set/leak.txt").write_text(BOX)
    write_lists([*train, Path("set/copy.png"), train[5]], [*valid, train[6], Path("set/leak.jpg")])


def test_faults_are_moved_away_and_come_back(run: Run) -> None:
    spoil()
    before = files()
    code, out, _ = run("dataset", "clean", "my.data", "--dry-run")
    assert code == 0 and out.endswith("my.data: 7 files moved, 3 rewritten if run without --dry-run\n")
    assert files() == before and out.startswith("set/t1.png: not an image but a text file\n")
    code, out, _ = run("dataset", "clean", "my.data")
    assert code == 0 and "my-removed: 7 files moved, 3 rewritten. Undo with:" in out
    names = {path for path in files() if path.startswith("set/")}
    moved = {f"set/{name}" for name in ("t1.png", "t1.txt", "t2.txt", "copy.png", "copy.txt", "leak.jpg", "leak.txt")}
    assert names == {path for path in before if path.startswith("set/")} - moved
    assert Path("set/t3.txt").read_text() == f"{BOX}1 .2 .2 .1 .1\n"
    assert Path("train.list").read_text().split() == [f"set/t{number}.png" for number in (0, 3, 4, 5, 6, 7)]
    assert Path("valid.list").read_text().split() == [f"set/v{number}.png" for number in range(3)]
    entries = json.loads(Path("my-removed/manifest.json").read_text())["files"]
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in entries}
    assert reasons["copy.png"] == "has the same bytes as set/t0.png" and "same image" in reasons["leak.jpg"]
    assert reasons["t3.txt"] == "lines 2, 3, 6 are wrong or repeated"
    assert run("dataset", "clean", "my.data").out == "my.data: nothing to clean, 9 images\n"
    code, out, _ = run("dataset", "clean", "my.data", "--undo", "my-removed")
    assert code == 0 and out == "my-removed: 10 files are back where they were\n"
    assert files() == before and not Path("my-removed").exists()


def test_undo_stops_before_it_overwrites_what_was_changed_since(run: Run) -> None:
    spoil()
    assert run("dataset", "clean", "my.data").code == 0
    Path("set/t1.png").write_bytes(b"new")
    Path("set/t3.txt").write_text("")
    before = files()
    code, _, err = run("dataset", "clean", "my.data", "--undo", "my-removed")
    assert code == 2 and "set/t1.png: exists again" in err and "set/t3.txt: was changed since" in err
    assert files() == before
    code, _, err = run("dataset", "clean", "my.data", "--undo", "set")
    assert code == 2 and "name a folder that darkpy dataset clean made" in err


def test_interrupted_move_can_be_undone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil()
    before = files()
    count = 0

    def copy(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr("shutil.copy2", copy)
    code, _, err = run("dataset", "clean", "my.data")
    assert code == 2 and "No space left on device" in err
    assert run("dataset", "clean", "my.data", "--undo", "my-removed").code == 0 and files() == before


def test_label_file_of_two_images_and_lines_of_difficult_lists_stay_right(run: Run) -> None:
    train = [Path(line) for line in Path("train.list").read_text().split()]
    twin = Path("set/t7.bmp")
    twin.write_bytes(train[7].read_bytes())
    Path("hard.list").write_text("".join(f"hard/{index}.png\n" for index in range(9)))
    write_lists([train[0], twin, *train[1:]], [put("v9", seed=30)], "difficult_train=hard.list\n")
    assert run("dataset", "clean", "my.data").code == 0
    assert Path("set/t7.txt").exists() and not train[7].exists() and "set/t7.bmp" in Path("train.list").read_text()
    assert "hard/8.png" not in Path("hard.list").read_text() and "hard/7.png" in Path("hard.list").read_text()


@pytest.mark.parametrize(
    ("spoiled", "told"),
    [
        ("labels", "label files have faults"),
        ("pixels", "8 of 8 images cannot be used"),
        ("valid", "no image of valid= would remain"),
        ("lists", "names no list of images"),
    ],
)
def test_fault_of_most_files_is_not_cleaned(run: Run, spoiled: str, told: str) -> None:
    for path in Path("set").iterdir():
        if spoiled == "labels" and path.suffix == ".txt":
            path.write_text("2 .5 .5 .5 .5\n")  # classes from 1
        elif spoiled == "pixels" and path.suffix == ".png":
            path.write_bytes(b"no image")
    if spoiled == "valid":
        Path("valid.list").write_text("set/t1.png\n")
    if spoiled == "lists":
        Path("my.data").write_text("classes=2\n")
    before = files()
    code, out, err = run("dataset", "clean", "my.data")
    assert code == 2 and told in err and out == "" and files() == before


def test_lines_that_name_no_image_are_left_out(run: Run) -> None:
    Path("set/film.mp4").write_bytes(b"film")
    train = Path("train.list").read_text()
    Path("train.list").write_text(f"{train}set/film.mp4\nnowhere\n")
    code, out, _ = run("dataset", "clean", "my.data")
    assert code == 0 and "1 files moved, 1 rewritten" in out and Path("train.list").read_text() == train


def test_boxes_that_are_not_lines_are_left_alone(run: Run) -> None:
    Path("set/t0.txt").write_text("0 .5 .5\n.5 .5 1\n.2 .2 .1 .1 9 .5 .5 .1 .1\n")
    assert "nothing to clean" in run("dataset", "clean", "my.data").out
