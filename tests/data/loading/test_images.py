"""From a path to the network's input: paths that are not files are refused, lists and folders are expanded."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray

from darkpy.data.loading.images import load_image, new_batch, prepare, stack
from darkpy.errors import ImageError, ShapeError
from darkpy.ops import resample
from darkpy.shapes import Shape


def colors(w: int = 12, h: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(w * 1009 + h).integers(0, 256, (h, w, 3), dtype=np.uint8)


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path)
    return str(caught.value).removeprefix(f"{path}: ")


class TestFiles:
    def test_missing_files_and_folders_are_reported_as_such(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "none.jpg") == "no such file or directory"
        assert refusal(tmp_path) == "a folder, not an image"
        assert refusal(tmp_path / ("long" * 100 + ".jpg")) == "file name too long"

    def test_an_unreadable_file_is_reported_as_unreadable(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def deny(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        (tmp_path / "secret.jpg").write_bytes(b"x")
        monkeypatch.setattr(Path, "open", deny)
        assert refusal(tmp_path / "secret.jpg") == "permission denied"

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jpg")
        assert refusal(tmp_path / "pipe.jpg") == "not a regular file"

    @pytest.mark.parametrize("name", ["two\nlines.jpg", "red\x1b[31m.jpg", "zero\0byte.jpg", "\udcff.jpg"])
    def test_a_hostile_name_stays_on_one_printable_line(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ImageError) as caught:
            load_image(tmp_path / name)
        assert str(caught.value).isprintable()


class TestPreparation:
    def test_to_tensor_is_darknets_image(self, tmp_path: Path) -> None:
        PIL.Image.fromarray(colors()).save(tmp_path / "a.png")
        image_CHW = load_image(tmp_path / "a.png").to_tensor()
        assert image_CHW.is_contiguous()
        assert torch.equal(image_CHW, torch.from_numpy(colors()).permute(2, 0, 1).float() / 255)

    @pytest.mark.parametrize("letterbox", [True, False])
    def test_prepare_is_resampling_of_darknets_image(self, tmp_path: Path, letterbox: bool) -> None:
        PIL.Image.fromarray(colors(90, 50)).save(tmp_path / "a.png")
        image = load_image(tmp_path / "a.png")
        fit = resample.letterbox if letterbox else resample.resize
        expected_CHW = fit(image.to_tensor(), 64, 32)
        torch.testing.assert_close(prepare(image, 64, 32, letterbox=letterbox), expected_CHW, rtol=0, atol=1e-6)

    def test_one_channel_is_stbs_gray(self, tmp_path: Path) -> None:
        PIL.Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)).save(
            tmp_path / "colors.png"
        )
        image = load_image(tmp_path / "colors.png", channels=1)
        assert image.pixels_HWC.tolist() == [[[76], [149], [28], [9]]]
        assert prepare(image, 8, 8, letterbox=True).shape == (1, 8, 8)
        with pytest.raises(ShapeError, match="not 4"):
            load_image(tmp_path / "colors.png", channels=4)


NOT_AS_STB = {
    "bmp_b_shortfile.bmp": "truncated: refused here, half an image there",
    "truncated_jpeg.jpg": "truncated: refused here, half an image there",
    "bmp_g_rgb16.bmp": "5 bits are stretched to 8 by other roundings",
    "hopper_bad_exif.jpg": "stb loses its way in the EXIF block",
    "invalid_palette_index.png": "stb reads beyond the palette",
}


def test_every_dirty_image_loads_as_in_stb_or_is_refused_in_one_line(shared: Path) -> None:
    folder = shared / "data" / "dirty"
    lines = (line.split(" | ") for line in (folder / "decode_matrix.txt").read_text().splitlines())
    stb = {line[0]: re.match(r"OK (\d+) (\d+) 3 mean ([\d.]+)", line[-1]) for line in lines}
    pictures = sorted(folder.glob("*/*"))
    assert len(pictures) > 100
    compared = refused = 0
    for path in pictures:
        seen = stb.get(str(path.relative_to(folder)))
        if seen is None or path.name in NOT_AS_STB:
            try:
                load_image(path)
            except ImageError as refusal:
                assert str(refusal).isprintable()
                assert str(path) in str(refusal)
                refused += 1
        else:
            image = load_image(path, exif_rotate=False)
            assert (image.w, image.h) == (int(seen[1]), int(seen[2])), path
            assert image.pixels_HWC.mean() / 255 == pytest.approx(float(seen[3]), abs=3e-4), path
            compared += 1
    assert compared > 70
    assert refused > 15


@pytest.mark.parametrize("letterbox", [True, False])
def test_images_are_stacked_in_the_layout_they_were_prepared_in(tmp_path: Path, letterbox: bool) -> None:
    PIL.Image.fromarray(colors()).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    planar, interleaved = (
        stack([prepare(image, 10, 6, letterbox=letterbox, channels_last=channels_last)] * 2)
        for channels_last in (False, True)
    )
    assert planar.is_contiguous() and interleaved.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(planar, interleaved, rtol=0, atol=1e-6)


@pytest.mark.parametrize("letterbox", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", [(10, 6), (6, 10), (7, 9)])
def test_images_in_the_memory_of_a_batch_are_the_same_and_not_copied(
    tmp_path: Path, letterbox: bool, channels_last: bool, size: tuple[int, int]
) -> None:
    w, h = size
    images = []
    for index in range(4):
        PIL.Image.fromarray(colors()[:, index:]).save(tmp_path / "a.png")
        images.append(load_image(tmp_path / "a.png"))
    expected = [prepare(image, w, h, letterbox=letterbox, channels_last=channels_last) for image in images]
    batch_BCHW = new_batch(4, Shape(3, h, w), channels_last).fill_(torch.nan)
    written = [
        prepare(image, w, h, letterbox=letterbox, out_CHW=x_CHW)
        for image, x_CHW in zip(images, batch_BCHW, strict=True)
    ]
    for indices in ([0, 1, 2, 3], [1, 2], [3], [0, 2], [2, 1], [0, 0]):
        together = stack([written[index] for index in indices])
        assert torch.equal(together, torch.stack([expected[index] for index in indices]))
        assert together.stride() == stack([expected[index] for index in indices]).stride()
        is_run = indices == list(range(indices[0], indices[-1] + 1))
        assert (together.data_ptr() == batch_BCHW[indices[0]].data_ptr()) == is_run
