"""What an [iseg] learns from a minibatch.

Legend: B images, I instances of an image, K classes, D numbers of an embedding, H W rows and columns, P = H * W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from darkpy.layers.loss import Loss

_PULL = 0.1  # how much each rule moves an embedding ...
_EMBEDDING_SCALE = 0.01  # ... before this


def iseg_loss(output_BCHW: Tensor, truth_BIP: Tensor, classes: int) -> Loss:
    """Delta and cost of a minibatch; `truth_BIP` holds the class of each instance before its mask.

    A pixel is drawn to the mean embedding of its instance, and pushed away from those of the others.
    Reports: `count` of instances, and `rejected`, those whose class or mask is none.
    Source: pjreddie/darknet src/iseg_layer.c forward_iseg_layer.
    Differs: an instance whose class is not below `classes` is left out; darknet writes beyond its array.
    """
    class_BI, mask_BIP, rejected = _read_truth(truth_BIP, classes)
    flat_BCP = output_BCHW.flatten(2)
    class_BKP, embedding_BDP = flat_BCP[:, :classes], flat_BCP[:, classes:]
    delta_BKP = _wanted_classes(class_BI, mask_BIP, classes) - class_BKP
    pull_BDP = _EMBEDDING_SCALE * (_pull_embeddings(embedding_BDP, mask_BIP != 0) - _PULL * embedding_BDP)
    delta_BCHW = torch.cat((delta_BKP, pull_BDP), dim=1).reshape(output_BCHW.shape)
    report = {"count": (mask_BIP != 0).any(2).sum(), "rejected": rejected}
    return Loss(delta_BCHW, delta_BCHW, delta_BCHW.square().sum(), report)


def _read_truth(truth_BIP: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Classes and masks, the latter empty where there is no instance, and how many are unusable."""
    is_listed_BI = (~(truth_BIP[..., 0] < 0)).cumprod(1).bool()
    most = max(1, int(is_listed_BI.sum(1).amax()))
    truth_BIP, is_listed_BI = truth_BIP[:, :most], is_listed_BI[:, :most]
    is_usable_BI = is_listed_BI & truth_BIP.isfinite().all(2) & (truth_BIP[..., 0] < classes)
    class_BI = torch.where(is_usable_BI, truth_BIP[..., 0], 0.0).long()
    mask_BIP = torch.where(is_usable_BI[..., None], truth_BIP[..., 1:], 0.0)
    return class_BI, mask_BIP, (is_listed_BI & ~is_usable_BI).sum()


def _wanted_classes(class_BI: Tensor, mask_BIP: Tensor, classes: int) -> Tensor:
    """What each class should be at each pixel: the mask of its last instance there, or 0."""
    batch, instances, pixels = mask_BIP.shape
    number_I1 = torch.arange(instances, device=mask_BIP.device)[:, None]
    number_BIP = torch.where(mask_BIP != 0, number_I1, -1)
    class_BIP = class_BI[..., None].expand(batch, instances, pixels)
    last_BKP = number_BIP.new_full((batch, classes, pixels), -1).scatter_reduce(1, class_BIP, number_BIP, "amax")
    return torch.where(last_BKP >= 0, mask_BIP.gather(1, last_BKP.clamp(min=0)), 0.0)


def _pull_embeddings(embedding_BDP: Tensor, is_in_BIP: Tensor) -> Tensor:
    """Which way the instances' means move the embeddings of all pixels that lie in one."""
    in_BIP = is_in_BIP.to(embedding_BDP.dtype)
    count_BI1 = in_BIP.sum(2, keepdim=True)
    mean_BID = torch.einsum("bip,bdp->bid", in_BIP, embedding_BDP) / count_BI1.clamp(min=1)
    # a pixel of n instances is pushed away n times from each of them, but from its own once less, and drawn there once
    weight_BIP = torch.where(count_BI1 > 0, 2 * in_BIP - in_BIP.sum(1, keepdim=True), 0.0)
    pull_BDP = torch.zeros_like(embedding_BDP)
    # instance by instance, 90 at most: the signs of all of them would be the largest tensor of the training
    for mean_BD, weight_BP in zip(mean_BID.unbind(1), weight_BIP.unbind(1), strict=True):
        way_BDP = torch.where(mean_BD[..., None] - embedding_BDP < 0, -_PULL, _PULL)
        pull_BDP += way_BDP * weight_BP[:, None]
    return pull_BDP
