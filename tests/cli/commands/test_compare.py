"""`darkpy compare` from the command line: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import darkpy
from darkpy.__main__ import main

CFG = """[net]
width=16
height=16
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[maxpool]
size=2
stride=1
[convolutional]
filters=18
activation=linear
[yolo]
mask=0,1,2
anchors=3,4, 5,6, 7,8
classes=1
num=3
"""


class Files:
    """A network's files in a folder, and darkpy run in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        torch.manual_seed(0)
        self.network = darkpy.load(CFG)
        (folder / "net.cfg").write_text(CFG)
        self.network.save_weights(folder / "net.weights")
        Image.new("RGB", (40, 20), (250, 120, 10)).save(folder / "a.png")

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self._capsys.readouterr()
        code = main(["compare", "net.cfg", "net.weights", *words])
        return code, *self._capsys.readouterr()

    def plant(self, dump: str, layer: int, amount: float) -> None:
        with np.load(self.folder / dump) as kept:
            arrays = dict(kept)
        arrays[f"layer{layer}"][0, 3, 2, 1] += amount
        np.savez(self.folder / dump, **arrays)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Files:
    monkeypatch.chdir(tmp_path)
    return Files(tmp_path, capsys)


def test_a_dump_that_was_just_written_agrees(files: Files) -> None:
    code, out, err = files.run("--dump", "net.npz")
    assert (code, out) == (0, "") and "net.npz holds x and 4 layers" in err
    code, out, err = files.run("--against", "net.npz")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "all 4 agree"


def test_the_first_layer_that_departs_is_the_last_line_but_one_and_the_exit_code_is_1(files: Files) -> None:
    files.run("--dump", "net.npz")
    files.plant("net.npz", 1, 0.5)
    code, out, _ = files.run("--against", "net.npz")
    assert code == 1
    *table, first, look = out.splitlines()
    assert first == "first difference: layer 1 [maxpool] net.cfg:11, by 0.5 at image 0, channel 3, row 2, column 1"
    assert look.startswith("look at the border:")
    assert [line.split()[:2] for line in table if line.endswith("differs")] == [["1", "maxpool"]]


def test_json_says_the_same(files: Files) -> None:
    files.run("--dump", "net.npz")
    files.plant("net.npz", 2, 0.5)
    code, out, _ = files.run("--against", "net.npz", "--json")
    found = json.loads(out)
    assert code == 1
    assert found["first"]["layer"] == 2 and found["first"]["place"] == "layer 2 [convolutional] net.cfg:14"
    assert [row["departs"] for row in found["layers"]] == [False, False, True, False]
    row = found["layers"][2]
    assert (row["type"], row["shape"], row["at"]) == ("convolutional", [18, 16, 16], [0, 3, 2, 1])
    assert row["difference"] == pytest.approx(0.5) and row["relative"] == pytest.approx(0.5 / row["largest"])


def test_nan_is_null_in_json(files: Files) -> None:
    files.run("--dump", "net.npz")
    files.plant("net.npz", 2, float("nan"))
    code, out, _ = files.run("--against", "net.npz", "--json")
    assert code == 1 and "Infinity" not in out and "NaN" not in out
    assert json.loads(out)["layers"][2]["difference"] is None


def test_a_larger_tolerance_lets_more_agree(files: Files) -> None:
    files.run("--dump", "net.npz")
    files.plant("net.npz", 2, 0.1)
    assert files.run("--against", "net.npz")[0] == 1
    assert files.run("--against", "net.npz", "--tolerance", "1")[0] == 0
    assert files.run("--against", "net.npz", "--tolerance", "nan")[0] == 2


def test_other_weights_are_compared_and_what_differs_is_named(files: Files) -> None:
    with torch.no_grad():
        files.network.get_parameter("layers.2.biases").add_(0.1)
    files.network.save_weights("other.weights")
    code, out, _ = files.run("--against", "other.weights", "--seed", "7")
    assert code == 1
    assert out.endswith("look at its biases: not the same in the two weight files\n")


def test_another_cfg_goes_with_the_other_weights(files: Files) -> None:
    Path("other.cfg").write_text(CFG.replace("leaky", "relu"))
    code, out, _ = files.run("--against", "net.weights", "--other-cfg", "other.cfg")
    assert code == 1 and "look at its activation=: not the same in the two cfgs" in out


def test_a_image_is_prepared_as_the_fork_does_or_as_asked(files: Files) -> None:
    for words in ([], ["--letterbox"], ["--stretch"]):
        assert files.run("a.png", "--dump", "a.npz", *words)[0] == 0
        with np.load("a.npz") as arrays:
            assert (arrays["x"][0, 1, 0] == 0.5).all() == (words != ["--stretch"])
    code, out, _ = files.run("a.png", "--against", "a.npz")
    assert code == 1 and "first difference: the network's input" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to compare with"),
        (["--against", "absent.npz"], "absent.npz: cannot be read"),
        (["--against", "absent.weights"], "absent.weights: cannot be read"),
        (["--against", "net.cfg"], "net.cfg is a text file"),
        (["--against", "a.png"], "a.png is a PNG image"),
        (["--dump", "a.npz", "--seed", "9" * 30], "invalid value for '--seed'"),
        (["--dump", "net.weights"], "net.weights: is an input of this command"),
        (["--dump", "new.weights"], "a dump is an .npz file"),
        (["--against", "net.npz", "--dump", "./net.npz"], "net.npz: is an input of this command"),
        (["absent.png", "--dump", "a.npz"], "absent.png"),
        (["--against", "net.npz", "--other-cfg", "net.cfg"], "is not a weight file"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(files: Files, words: list[str], message: str) -> None:
    files.run("--dump", "net.npz")
    code, out, err = files.run(*words)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("error: ") and "Traceback" not in err


def test_a_dump_of_another_network_is_one_message(files: Files) -> None:
    files.run("--dump", "net.npz")
    Path("net.cfg").write_text(CFG.replace("filters=4", "filters=8"))
    darkpy.load("net.cfg").save_weights("net.weights")
    code, _, err = files.run("--against", "net.npz")
    assert code == 2 and "layer0 has the shape (1, 4, 16, 16), the cfg gives (1, 8, 16, 16)" in err
