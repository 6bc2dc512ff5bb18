"""Networks that learn masks, against pjreddie's `segmenter` and `isegmenter`: samples, losses, weights, drawings."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray

import darkpy
from darkpy.__main__ import main
from darkpy.data.augment.geometry import RotatedCrop
from darkpy.data.lists.mask_files import read_masks
from darkpy.data.lists.text_files import read_data
from darkpy.data.loading.mask_datasets import fill_instances, fill_mask_classes
from darkpy.ops.color import distort
from darkpy.training.loop import run_updates
from darkpy.training.setup import open_setup
from darkpy.training.trainer import Trainer

GOLDEN = Path(__file__).parent / "golden" / "masks.npz"
CASES = ("logistic", "cost", "iseg")
STILL_CASES = ("still", "still-iseg")
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def golden() -> Arrays:
    return dict(np.load(GOLDEN))


def files(golden: Arrays, case: str, folder: Path) -> Arrays:
    """The case's arrays; its files are in the folder, as the C program had them."""
    groups = ["still"] if case in STILL_CASES else ["moving", "isegmenter" if case == "iseg" else "segmenter"]
    groups += ["logistic"] if case == "cost" else []
    arrays: Arrays = {}
    for group in (*groups, case):
        arrays |= {key.removeprefix(f"{group}/"): golden[key] for key in golden if key.startswith(f"{group}/")}
    for name in ("images", "mask", "backup"):
        (folder / name).mkdir()
    count = sum(key.startswith("image") for key in arrays)
    for number in range(count):
        stream = io.BytesIO()
        PIL.Image.fromarray(arrays[f"image{number}"]).save(stream, "PNG")
        (folder / "images" / f"{number}.jpg").write_bytes(stream.getvalue())
        (folder / "mask" / f"{number}.txt").write_bytes(arrays[f"mask{number}"].tobytes())
    (folder / "list.txt").write_text("".join(f"images/{number}.jpg\n" for number in range(count)))
    (folder / "net.cfg").write_bytes(arrays["cfg"].tobytes().replace(b"[net]", b"[net]\nconstrain=0", 1))
    (folder / "net.data").write_text("train=list.txt\nbackup=backup\n")
    (folder / "init.weights").write_bytes(arrays["init"].tobytes())
    (folder / "final.weights").write_bytes(arrays["final"].tobytes())
    return arrays


def assert_losses_and_weights(arrays: Arrays, losses: list[float], final: Path) -> None:
    np.testing.assert_allclose(losses, arrays["losses"], rtol=1e-5)
    assert len(losses) == 20 and losses[-1] < 0.6 * losses[0]
    weights, expected = np.fromfile(final, "<f4", offset=20), arrays["final"].view("<f4")[5:]
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("case", ["logistic", "iseg"])
def test_samples_are_darknets(golden: Arrays, tmp_path: Path, case: str) -> None:
    arrays = files(golden, case, tmp_path)
    classes = 3 if case == "iseg" else 80
    x_SCHW, truth_S = arrays["x"].reshape(-1, 3, 16, 16), arrays["truth"].reshape(80, *arrays["truth"].shape[2:])
    for row, x_CHW, truth in zip(arrays["args"].reshape(-1, 10).tolist(), x_SCHW, truth_S, strict=True):
        number, rad, scale, dx, dy, aspect, flip, hue, saturation, exposure = row
        image_HWC = arrays[f"image{int(number)}"]
        image_CHW = torch.from_numpy(image_HWC).permute(2, 0, 1)
        crop = RotatedCrop(16, 16, rad, scale, dx, dy, aspect, bool(flip))
        made_CHW = distort(crop.render(image_CHW), hue, saturation, exposure)
        np.testing.assert_allclose(made_CHW.numpy(), x_CHW, rtol=0, atol=2e-5)
        file = read_masks(tmp_path / "mask" / f"{int(number)}.txt", classes)
        h, w = image_HWC.shape[:2]
        if case == "iseg":
            made = fill_instances(file, w, h, crop, 4, 90)
            used = int((made[:, 0] >= 0).sum())
            assert truth[used, 0] == -1  # behind it darknet writes nothing
            made, truth = made[: used + 1], truth[: used + 1]
        else:
            made = fill_mask_classes(file, w, h, crop, 4, classes)
        np.testing.assert_allclose(made.numpy(), truth, rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_of_20_updates_are_darknets(golden: Arrays, tmp_path: Path, case: str) -> None:
    """With the samples that the C program has made."""
    arrays = files(golden, case, tmp_path)
    network = darkpy.load(tmp_path / "net.cfg", tmp_path / "init.weights", dialect="pjreddie")
    trainer = Trainer(network)
    losses, rates = [], []
    for x_SCHW, truth_S in zip(arrays["x"], arrays["truth"], strict=True):
        parts = [slice(0, 2), slice(2, 4)]
        steps = [trainer.train_minibatch(torch.from_numpy(x_SCHW[p]), torch.from_numpy(truth_S[p])) for p in parts]
        losses.append(float(sum(step.cost for step in steps)) / 4)
        rates.append(steps[-1].rate)
    network.save_weights(tmp_path / "made.weights")
    assert_losses_and_weights(arrays, losses, tmp_path / "made.weights")
    np.testing.assert_allclose(rates, arrays["rates"], rtol=1e-6)


@pytest.mark.parametrize("case", STILL_CASES)
def test_whole_training_is_darknets_where_nothing_is_random(
    golden: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """One image that is its own mirror image, in the network's size, with masks that are stripes of rows."""
    arrays = files(golden, case, tmp_path)
    monkeypatch.chdir(tmp_path)
    network = darkpy.load("net.cfg", "init.weights", dialect="pjreddie")
    setup = open_setup(network.plan, read_data("net.data"), seed=1)
    assert setup.kind == ("segmenter" if case == "still" else "isegmenter")
    losses = [report.loss for report in run_updates(Trainer(network), setup.source)]
    network.save_weights("made.weights")
    assert_losses_and_weights(arrays, losses, tmp_path / "made.weights")


@pytest.mark.parametrize("case", ["still", "cost"])
def test_drawings_of_a_test_are_darknets(
    golden: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arrays = files(golden, case, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["segmenter", "test", "net.data", "net.cfg", "final.weights", "images/0.jpg", "-nogpu"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == arrays["line"].tobytes().decode() and second.startswith("images/0.jpg: Predicted in ")
    for name in ("pred", "orig"):
        pixels_HWC = np.array(PIL.Image.open(f"{name}.png")).astype(int)
        is_dark_HWC = pixels_HWC < 255  # above white darknet's bytes overflow
        assert is_dark_HWC.mean() > 0.3
        assert np.abs(pixels_HWC - arrays[name])[is_dark_HWC].max() <= 1
