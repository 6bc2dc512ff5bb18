"""Delta and cost of [iseg].

Legend: B images, I instances of an image, K classes, D elements of an embedding, H W rows and columns,
P = H * W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from darkpy.layers.loss import Loss

_PULL_STEP = 0.1  # by which each rule below moves an element of an embedding (darknet's constant)
_EMBEDDING_SCALE = 0.01  # of the whole embedding delta (darknet's constant)


def iseg_loss(output_BCHW: Tensor, truth_BIP: Tensor, classes: int) -> Loss:
    """Delta and cost of a minibatch; a row of `truth_BIP` is the class of an instance, then its mask.

    Embeddings move by fixed steps: towards the mean of their own instance, away from those of the others, and
    towards 0 (a decay).
    Reports: `count` of instances; `rejected`, those with an invalid class or mask.
    Source: pjreddie/darknet src/iseg_layer.c forward_iseg_layer.
    Differs: an instance whose class is not below `classes` is skipped; darknet writes beyond its array.
    """
    class_BI, mask_BIP, rejected = _read_truth(truth_BIP, classes)
    flat_BCP = output_BCHW.flatten(2)
    class_BKP, embedding_BDP = flat_BCP[:, :classes], flat_BCP[:, classes:]
    delta_BKP = _class_targets(class_BI, mask_BIP, classes) - class_BKP
    pull_BDP = _EMBEDDING_SCALE * (_pull_embeddings(embedding_BDP, mask_BIP != 0) - _PULL_STEP * embedding_BDP)
    delta_BCHW = torch.cat((delta_BKP, pull_BDP), dim=1).reshape(output_BCHW.shape)
    report = {"count": (mask_BIP != 0).any(2).sum(), "rejected": rejected}
    return Loss(delta_BCHW, delta_BCHW, delta_BCHW.square().sum(), report)


def _read_truth(truth_BIP: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return classes, masks (0 for an absent or invalid instance), and the number of invalid instances."""
    is_listed_BI = (~(truth_BIP[..., 0] < 0)).cumprod(1).bool()
    most = max(1, int(is_listed_BI.sum(1).amax()))
    truth_BIP, is_listed_BI = truth_BIP[:, :most], is_listed_BI[:, :most]
    is_usable_BI = is_listed_BI & truth_BIP.isfinite().all(2) & (truth_BIP[..., 0] < classes)
    class_BI = torch.where(is_usable_BI, truth_BIP[..., 0], 0.0).long()
    mask_BIP = torch.where(is_usable_BI[..., None], truth_BIP[..., 1:], 0.0)
    return class_BI, mask_BIP, (is_listed_BI & ~is_usable_BI).sum()


def _class_targets(class_BI: Tensor, mask_BIP: Tensor, classes: int) -> Tensor:
    """Target of each class at each pixel: the mask of its last instance there, or 0."""
    batch, instances, pixels = mask_BIP.shape
    # the last instance wins because darknet loops over them and overwrites
    index_I1 = torch.arange(instances, device=mask_BIP.device)[:, None]
    index_BIP = torch.where(mask_BIP != 0, index_I1, -1)
    class_BIP = class_BI[..., None].expand(batch, instances, pixels)
    last_BKP = index_BIP.new_full((batch, classes, pixels), -1).scatter_reduce(1, class_BIP, index_BIP, "amax")
    return torch.where(last_BKP >= 0, mask_BIP.gather(1, last_BKP.clamp(min=0)), 0.0)


def _pull_embeddings(embedding_BDP: Tensor, is_in_BIP: Tensor) -> Tensor:
    """Steps of the embeddings of all pixels towards or away from the mean embeddings of the instances."""
    in_BIP = is_in_BIP.to(embedding_BDP.dtype)
    count_BI1 = in_BIP.sum(2, keepdim=True)
    mean_BID = torch.einsum("bip,bdp->bid", in_BIP, embedding_BDP) / count_BI1.clamp(min=1)
    # for each instance of a pixel darknet pulls towards that one's mean and pushes from all others: a pixel of n
    # instances is pushed n times from each it is not in, and pulled 1 - (n - 1) = 2 - n times to each of its own
    weight_BIP = torch.where(count_BI1 > 0, 2 * in_BIP - in_BIP.sum(1, keepdim=True), 0.0)
    pull_BDP = torch.zeros_like(embedding_BDP)
    # a loop over at most 90 instances: the signs of all at once would be the largest tensor of the training
    for mean_BD, weight_BP in zip(mean_BID.unbind(1), weight_BIP.unbind(1), strict=True):
        step_BDP = torch.where(mean_BD[..., None] - embedding_BDP < 0, -_PULL_STEP, _PULL_STEP)
        pull_BDP += step_BDP * weight_BP[:, None]
    return pull_BDP
