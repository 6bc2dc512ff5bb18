"""Data sets of masks for training: the classes of each pixel, or the mask of each instance.

The classes here are sent to worker processes. Letters: C color, H height, W width of the network's input or of a mask;
K classes; I instances; P pixels of a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darkpy.data.augment.classification import draw_crop, recolor
from darkpy.data.augment.config import ClassificationAugmentConfig
from darkpy.data.augment.geometry import RotatedCrop
from darkpy.data.augment.sampler import Sampler
from darkpy.data.lists.mask_files import MaskFile, read_masks
from darkpy.data.lists.paths import mask_path
from darkpy.data.loading.bad_files import Problem
from darkpy.data.loading.datasets import ImageOpener, TrainingSample
from darkpy.errors import DarkpyError
from darkpy.ops.resample import resize


@dataclass(frozen=True, slots=True)
class MaskData:
    """Images with mask files. max_instances: rows of a target for [iseg]; 0 for targets of the classes of each pixel.

    classes: of the masks. divisor: pixels of the network's input for one of the target, in each direction.
    Source:  pjreddie/darknet src/data.c load_data_seg, load_data_iseg
    Differs: an image without a mask file ends darknet's program; here it is skipped.
    """

    paths: tuple[str, ...]
    augment_config: ClassificationAugmentConfig
    sampler: Sampler
    classes: int
    divisor: int
    max_instances: int = 0
    channels: int = 3

    def make(self, sample_index: int, w: int, h: int, steps: list[str] | None = None) -> TrainingSample:
        """Make a sample, see `Dataset`. steps: gets a description of each step of its augmentation."""
        opener = ImageOpener(self.paths, self.channels, self.sampler, sample_index, self._read_masks, None)
        rngs = self.sampler.rngs(sample_index, steps)
        image_CHW, file = opener.open(0)
        crop = draw_crop(image_CHW, self.augment_config, w, w, h, rngs)
        x_CHW = recolor(crop.render(image_CHW), self.augment_config, rngs)
        _, image_h, image_w = image_CHW.shape
        fitting = file.fitting(image_w, image_h)
        opener.problems += (Problem(True, text, text) for text in fitting.problems)
        if self.max_instances:
            truth = fill_instances(fitting, image_w, image_h, crop, self.divisor, self.max_instances)
        else:
            truth = fill_mask_classes(fitting, image_w, image_h, crop, self.divisor, self.classes)
        return TrainingSample(x_CHW, truth, tuple(opener.opened), tuple(opener.problems))

    def _read_masks(self, path: str, problems: list[Problem]) -> MaskFile | None:
        file = path
        try:
            file = str(mask_path(path))
            return read_masks(file, self.classes)
        except DarkpyError as error:
            problems.append(Problem(False, file, error.message))
            return None


def fill_mask_classes(file: MaskFile, w: int, h: int, crop: RotatedCrop, divisor: int, classes: int) -> Tensor:
    """Make the target of a network that classifies pixels: for each class, how much of a pixel its masks cover.

    w, h: size of the image.
    Shapes:  (classes, net_h / divisor, net_w / divisor).
    Source:  pjreddie/darknet src/data.c load_data_seg
    """
    truth_KHW = torch.zeros(classes, crop.net_h // divisor, crop.net_w // divisor)
    for class_id, pixels_HW in file.render_classes(w, h):
        truth_KHW[class_id] = crop.render(torch.from_numpy(pixels_HW)[None], divisor)[0]
    return truth_KHW


def fill_instances(file: MaskFile, w: int, h: int, crop: RotatedCrop, divisor: int, max_instances: int) -> Tensor:
    """Make the target of [iseg]: the class of each instance, -1 behind the last one, and its mask.

    w, h: size of the image. Masks beyond `max_instances` are left out.
    Shapes:  (max_instances, 1 + P).
    Source:  pjreddie/darknet src/data.c fill_truth_iseg
    """
    mask_w, mask_h = crop.net_w // divisor, crop.net_h // divisor
    truth_IP = torch.zeros(max_instances, 1 + mask_w * mask_h)
    masks = file.masks[:max_instances]
    truth_IP[len(masks) :, 0] = -1
    for row_P, mask in zip(truth_IP, masks, strict=False):
        row_P[0] = mask.class_id
        row_P[1:] = resize(crop.render(torch.from_numpy(mask.render(w, h))[None]), mask_w, mask_h).reshape(-1)
    return truth_IP
