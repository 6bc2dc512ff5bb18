"""`detector valid2`, `oneoff2`, `mkimg` and `imtest`, against pjreddie's program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import darkpy
from darkpy.cli.commands import image_tools
from tests.cli.conftest import Run

GOLDEN = Path(__file__).parents[2] / "golden" / "darknet-tools.npz"


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[Any]]:
    monkeypatch.chdir(tmp_path)
    return dict(np.load(GOLDEN))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Images before they are written, by their paths."""
    images: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(image_tools, "_write", lambda image_CHW, path, _: images.setdefault(str(path), image_CHW))
    return images


def write_files(golden: dict[str, NDArray[Any]], case: str) -> None:
    Path("net.cfg").write_bytes(golden[f"{case}/cfg"].tobytes())
    Path("net.weights").write_bytes(golden[f"{case}/weights"].tobytes())


@pytest.mark.parametrize("head", ["yolo", "region"])
def test_valid2_averages_an_image_with_its_mirror_image(golden: dict[str, NDArray[Any]], run: Run, head: str) -> None:
    """The program was corrected: it mirrors a box's center as -x, takes other channels for it where a head has several
    anchors, and counts boxes before it averages.
    """
    write_files(golden, head)
    Path("im").mkdir()
    for index in range(4):
        Image.fromarray(golden[f"image{index}"]).save(f"im/{index}.png")
    Path("list.txt").write_text("im/0.png\nim/1.png\nim/2.png\nim/3.png\n")
    Path("names.txt").write_text("cat\ndog\n")
    Path("net.data").write_text("valid=list.txt\nnames=names.txt\nresults=results\n")
    code, _, err = run("detector", "valid2", "net.data", "net.cfg", "net.weights", "-nogpu")
    assert code == 0, err
    for name in ("cat", "dog"):
        lines = Path(f"results/comp4_det_test_{name}.txt").read_text().splitlines()
        expected = golden[f"{head}/{name}"].tobytes().decode().splitlines()
        rows, wanted = (np.array([line.split() for line in texts], float) for texts in (lines, expected))
        # boxes outside the image: darknet's have a negative size, darkpy's none
        wanted[:, 2:4] = np.minimum(wanted[:, 2:4], wanted[:, 4:])
        np.testing.assert_allclose(rows, wanted, rtol=1e-5, atol=1e-4)
    assert "are averaged" not in err


def test_valid2_refuses_a_head_that_is_not_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = "[net]\nwidth=8\nheight=8\nchannels=3\n[connected]\noutput=6\nactivation=linear\n"
    Path("net.cfg").write_text(f"{cfg}[detection]\nclasses=1\ncoords=4\nside=1\nnum=1\n")
    network = darkpy.load("net.cfg")
    network.initialize()
    network.save_weights("net.weights")
    Image.new("RGB", (8, 8)).save("a.png")
    Path("list.txt").write_text("a.png\n")
    Path("net.data").write_text("valid=list.txt\n")
    code, _, err = run("detector", "valid2", "net.data", "net.cfg", "net.weights", "-nogpu")
    assert code == 2 and "is not averaged with that of a mirrored image\n  hint: darkpy detector valid" in err


def test_oneoff2_writes_darknets_bytes(golden: dict[str, NDArray[Any]], run: Run) -> None:
    write_files(golden, "oneoff2")
    code, _, err = run("oneoff2", "net.cfg", "net.weights", "out.weights", "2")
    assert code == 0, err
    assert Path("out.weights").read_bytes() == golden["oneoff2/out"].tobytes()
    code, _, err = run("oneoff2", "net.cfg", "net.weights", "other.weights", "4")
    assert code == 2 and "no layer of net.cfg has weights from layer 4 on" in err
    assert run("oneoff2", "net.cfg", "net.weights", "out.weights", "2").code == 2


def test_mkimg_draws_darknets_textures(
    golden: dict[str, NDArray[Any]], run: Run, written: dict[str, torch.Tensor]
) -> None:
    write_files(golden, "mkimg")
    code, _, err = run("mkimg", "net.cfg", "net.weights", "24", "24", "2", "tex")
    assert code == 0, err
    for number in range(2):
        image_CHW = written[f"tex/gen_{number}.jpg"]
        np.testing.assert_allclose(image_CHW.numpy(), golden[f"mkimg/{number}"], rtol=0, atol=2e-6)
    code, _, err = run("mkimg", "net.cfg", "net.weights", "7", "28", "2", "tex")
    assert code == 2 and "7 x 28 pixels are not more than a filter's 7 x 7" in err


def test_imtest_recolors_as_darknet(
    golden: dict[str, NDArray[Any]], run: Run, written: dict[str, torch.Tensor]
) -> None:
    Image.fromarray(golden["image0"]).save("a.png")
    code, out, err = run("imtest", "a.png")
    assert code == 0, err
    expected = golden["imtest/line"].tobytes().decode()
    assert out.split()[:2] == expected.split()[:2] == ["L2", "Norm:"]
    assert float(out.split()[2]) == pytest.approx(float(expected.split()[2]), rel=1e-6)
    for name in ("Original", "Gray", "C1", "C2", "C3", "C4"):
        np.testing.assert_allclose(written[f"{name}.jpg"].numpy(), golden[f"imtest/{name}"], rtol=0, atol=2e-6)


def test_images_are_written_and_those_of_others_are_kept(golden: dict[str, NDArray[Any]], run: Run) -> None:
    Image.fromarray(golden["image0"]).save("a.png")
    assert run("test", "a.png", "--out", "copies").code == 0
    assert {path.name for path in Path("copies").iterdir()} == {
        *("Original.jpg", "Gray.jpg", "C1.jpg", "C2.jpg", "C3.jpg", "C4.jpg"),
    }
    assert run("imtest", "a.png", "--out", "copies").code == 0
    Image.fromarray(golden["image0"]).save("C1.jpg")
    code, _, err = run("imtest", "a.png")
    assert code == 2 and "C1.jpg: already exists" in err
