"""`classifier valid10`, `validcrop`, `validfull`, `validmulti`, `csv`, `fout` and `test`, against both C programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from darkpy.cli.commands import classifier_valid
from tests.cli.conftest import Run

GOLDEN = Path(__file__).parents[2] / "golden" / "classifier-views.npz"
DIALECTS = ("pjreddie", "alexeyab")
NETWORK = ("net.data", "net.cfg", "net.weights", "-nogpu")


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[Any]]:
    """What the programs printed, and their files in the working directory."""
    monkeypatch.chdir(tmp_path)
    golden = dict(np.load(GOLDEN))
    Path("im").mkdir()
    names = golden["names"].tolist()
    for index, name in enumerate(names):
        Image.fromarray(golden[f"image{index}"]).save(name)
    Path("list.txt").write_text("".join(f"{name}\n" for name in names))
    Path("labels.txt").write_text("ant\nbee\ncow\ndoe\nelk\nfox\n")
    Path("net.data").write_text("labels=labels.txt\nvalid=list.txt\ntest=list.txt\ntop=2\n")
    Path("net.cfg").write_bytes(golden["cfg"].tobytes())
    Path("net.weights").write_bytes(golden["weights"].tobytes())
    return golden


def choose_network(golden: dict[str, NDArray[Any]], network: str) -> None:
    """net ends in [softmax]; tree gives it a class tree; avg leaves it out."""
    cfg = golden["cfg"].tobytes().decode()
    if network == "tree":
        Path("life.tree").write_bytes(golden["tree"].tobytes())
        cfg = cfg.replace("groups=1", "tree=life.tree")
    Path("net.cfg").write_text(cfg.partition("[softmax]")[0] if network == "avg" else cfg)


@pytest.mark.parametrize(
    ("word", "dialect", "network"),
    [
        *(("valid10", dialect, network) for dialect in DIALECTS for network in ("net", "tree")),
        *((word, "pjreddie", network) for word in ("validfull", "validmulti") for network in ("net", "tree")),
        # AlexeyAB's program cannot change the size of [softmax]
        *((word, dialect, "avg") for word in ("validfull", "validmulti") for dialect in DIALECTS),
    ],
)
def test_accuracy_lines_are_darknets(
    golden: dict[str, NDArray[Any]], run: Run, word: str, dialect: str, network: str
) -> None:
    choose_network(golden, network)
    code, out, err = run("classifier", word, *NETWORK, "--dialect", dialect)
    assert code == 0, err
    assert out.splitlines() == golden[f"{dialect}/{network}/{word}"].tobytes().decode().splitlines()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_validcrop_measures_parts_of_thousand_images(
    golden: dict[str, NDArray[Any]], run: Run, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    """The program read each image a hundred times; here a part has ten images."""
    monkeypatch.setattr(classifier_valid, "PART_IMAGES", 10)
    choose_network(golden, "tree")
    code, out, err = run("classifier", "validcrop", *NETWORK, "--dialect", dialect)
    assert code == 0, err
    lines = [re.sub(r", [\d.]+ seconds", "", line) for line in out.splitlines()]
    *_, expected = golden[f"{dialect}/tree/validcrop"].tobytes().decode().splitlines()
    assert [line.rpartition(", ")[2] for line in lines] == ["10 images", "10 images"]
    assert lines[1].rpartition(", ")[0] == expected.rpartition(", ")[0]


def test_outputs_of_lists_are_pjreddies(golden: dict[str, NDArray[Any]], run: Run) -> None:
    choose_network(golden, "tree")
    for word, list_file in (("csv", ()), ("fout", ("list.txt",)), ("test", ())):
        code, out, err = run("classifier", word, *NETWORK[:3], *list_file, "-nogpu")
        assert code == 0, err
        expected = golden[f"pjreddie/tree/{word}"].tobytes().decode().splitlines()
        lines = out.splitlines()
        # the program's `test` leaves out the last batch
        assert len(lines) == 20 and len(expected) == (19 if word == "test" else 20)
        for line, wanted in zip(lines, expected, strict=False):
            (path, *numbers), (wanted_path, *wanted_numbers) = line.split("\t"), wanted.split("\t")
            assert path == wanted_path
            tolerance = 0 if word == "csv" else 2e-5
            np.testing.assert_allclose([*map(float, numbers)], [*map(float, wanted_numbers)], rtol=tolerance, atol=1e-7)


def test_accuracy_is_json_on_demand_and_long_images_are_reported(golden: dict[str, NDArray[Any]], run: Run) -> None:
    Image.fromarray(np.zeros((1, 9000, 3), np.uint8)).save("im/ant_long.png")
    Path("list.txt").write_text(f"im/ant_long.png\n{golden['names'][0]}\n")
    code, out, err = run("classifier", "validfull", *NETWORK, "--json")
    assert code == 2 and (json.loads(out)["images"], json.loads(out)["unreadable"]) == (2, 1)
    assert "error: im/ant_long.png: is 9000 x 1, which would be 288000 x 32 for the network" in err
    Path("im/ant_long.png").write_text("no image")
    code, out, _ = run("classifier", "fout", *NETWORK[:3], "list.txt", "-nogpu")
    assert code == 2 and len(out.splitlines()) == 1


def test_predictions_of_a_folder_are_json(golden: dict[str, NDArray[Any]], run: Run) -> None:
    Path("im/broken.png").write_text("no image")
    for words in (("classifier", "predict", *NETWORK, "-t", "2"), ("classify", *NETWORK[1:], "--names", "labels.txt")):
        code, out, _ = run(*words, "im", "--json")
        records = json.loads(out)
        assert code == 2 and len(records) == 21
        (error,) = [record for record in records if "error" in record]
        assert error["filename"] == "im/broken.png"
        first = next(record for record in records if "error" not in record)
        assert len(first["classes"]) == (2 if words[0] == "classifier" else 5)
        assert first["classes"][0].keys() == {"class_id", "name", "confidence"}
        text = run(*words, first["filename"]).out
        assert text.startswith(f"{100 * first['classes'][0]['confidence']:5.2f}%: {first['classes'][0]['name']}")
