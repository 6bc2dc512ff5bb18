"""Samples of the data set of masks: masks move with their image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from darkpy.config.net import NetSpec
from darkpy.data.augment.config import ClassificationAugmentConfig
from darkpy.data.augment.sampler import Sampler
from darkpy.data.lists.mask_files import Mask, encode_runs, format_masks
from darkpy.data.loading.mask_datasets import MaskData
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError

NET = NetSpec(dialect=Dialect.PJREDDIE, width=32, height=32, angle=20.0, aspect=1.2, hue=0.0)


@pytest.fixture
def data(tmp_path: Path) -> MaskData:
    """An image with a white disk of class 2 and, in its lower half, one of class 0 that is not visible."""
    (tmp_path / "images").mkdir()
    (tmp_path / "mask").mkdir()
    path = tmp_path / "images" / "a.png"
    y_HW, x_HW = np.mgrid[:48, :64]
    is_disk_HW = (y_HW - 20) ** 2 + (x_HW - 26) ** 2 < 200
    PIL.Image.fromarray(np.repeat(255 * is_disk_HW[..., None], 3, 2).astype(np.uint8)).save(path)
    masks = [Mask(2, encode_runs(is_disk_HW)), Mask(0, encode_runs(is_disk_HW & (y_HW > 20)))]
    (tmp_path / "mask" / "a.txt").write_text(format_masks(masks))
    return MaskData((str(path),), ClassificationAugmentConfig.from_net(NET), Sampler(seed=1, count=1), 3, 1)


def test_mask_of_a_visible_object_is_its_image_wherever_it_is_moved(data: MaskData) -> None:
    for index in range(20):
        sample = data.make(index, 32, 32)
        torch.testing.assert_close(sample.truth[2], sample.x_CHW[0], rtol=0, atol=1e-5)
        assert sample.truth.shape == (3, 32, 32) and not sample.truth[1].any()
        assert (sample.truth[0] <= sample.truth[2]).all() and 0 < sample.truth[0].sum() < sample.truth[2].sum()
        assert sample.problems == ()


def test_smaller_target_has_each_second_pixel_of_the_larger_one(data: MaskData) -> None:
    for index in range(10):
        large, small = (replace(data, divisor=divisor).make(index, 32, 32).truth for divisor in (1, 2))
        # a mirrored target begins at its other end
        left, right = small - large[:, ::2, ::2], small - large[:, ::2, 1::2]
        assert min(float(left.abs().max()), float(right.abs().max())) < 1e-5


def test_instances_are_rows_of_class_and_mask(data: MaskData) -> None:
    instances = replace(data, divisor=2, max_instances=5)
    for index in range(10):
        truth = instances.make(index, 32, 32).truth
        assert truth.shape == (5, 1 + 16 * 16)
        assert truth[:, 0].tolist() == [2, 0, -1, -1, -1] and not truth[2:, 1:].any()
        assert (truth[1, 1:] <= truth[0, 1:]).all() and truth[0, 1:].max() > 0.99
    assert replace(instances, max_instances=1).make(0, 32, 32).truth[:, 0].tolist() == [2]


def test_one_class_of_several_objects_is_their_union(data: MaskData) -> None:
    file = Path(data.paths[0].replace("images", "mask").replace(".png", ".txt"))
    file.write_text("2 0,64\n2 64,64\n")
    truth = data.make(3, 32, 32).truth
    file.write_text("2 0,128\n")
    torch.testing.assert_close(truth, data.make(3, 32, 32).truth, rtol=0, atol=0)


def test_wrong_masks_are_reported_and_images_without_a_file_are_skipped(data: MaskData) -> None:
    file = Path(data.paths[0].replace("images", "mask").replace(".png", ".txt"))
    file.write_text("7 1,2\n2 0,9999\n1 0,3072\n")
    sample = data.make(0, 32, 32)
    assert [problem.message.partition(": ")[2] for problem in sample.problems] == [
        "class 7 is not from 0 to 2",
        "its runs have 9999 pixels, the image of 64 x 48 has 3072",
    ]
    assert sample.truth[1].max() == 1 and not sample.truth[2].any()
    file.unlink()
    with pytest.raises(DarkpyError, match=f"100 images in a row could not be used; of the last: {file}"):
        data.make(0, 32, 32)


def test_same_index_is_the_same_sample(data: MaskData) -> None:
    one, other, next_one = data.make(5, 32, 32), data.make(5, 32, 32), data.make(6, 32, 32)
    assert torch.equal(one.x_CHW, other.x_CHW) and torch.equal(one.truth, other.truth)
    assert not torch.equal(one.x_CHW, next_one.x_CHW)
