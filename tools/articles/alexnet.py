"""AlexNet on Fashion-MNIST, which stalls or overflows, and the effect of each remedy.

The network is that of the article's textbook (five convolutions, the first 11 x 11 at stride 4, three fully connected
layers), a quarter as wide and for images of 64 pixels, so that a CPU trains it in seconds. The textbook's rate is 0.01
for the mean loss of a batch; with the summed loss, 0.01 is BATCH times as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tools.articles.images import GrayImages
from tools.articles.runs import Outcome, learn

BATCH, IMAGE_PX, RATE = 64, 64, 0.01
SUMMED_LOSS, MSRA_INIT = "the summed loss", "init=msra"
Keys = Mapping[str, object]
BASE_NET_KEYS: Keys = MappingProxyType(
    {
        "width": IMAGE_PX,
        "height": IMAGE_PX,
        "channels": 1,
        "batch": BATCH,
        "learning_rate": RATE,
        "momentum": 0,
        "decay": 0,
        "constrain": 0,
        "init": "xavier",
        "loss_reduction": "sum",
    }
)
_CONVOLUTION_WINDOWS = ((24, 11, 4, 1), (64, 5, 1, 2), (96, 3, 1, 1), (96, 3, 1, 1), (64, 3, 1, 1))
_POOLED_CONVOLUTIONS = (0, 1, 4)
_HIDDEN_UNITS, _CLASS_COUNT = 256, 10


@dataclass(frozen=True, slots=True)
class Case:
    """A remedy: keys of [net], and keys of every layer with weights but the last.

    loss: type of the last section. truth: target value of the true class.
    """

    net: Keys = field(default_factory=dict)
    layer: Keys = field(default_factory=dict)
    loss: str = "softmax"
    truth: float = 1.0

    @property
    def cfg(self) -> str:
        layer = {"activation": "relu", **self.layer}
        text = _section("net", {**BASE_NET_KEYS, **self.net})
        for index, (filters, size, stride, padding) in enumerate(_CONVOLUTION_WINDOWS):
            window = {"filters": filters, "size": size, "stride": stride, "padding": padding}
            text += _section("convolutional", {**window, **layer})
            text += _section("maxpool", {"size": 3, "stride": 2}) if index in _POOLED_CONVOLUTIONS else ""
        for _ in range(2):
            text += _section("connected", {"output": _HIDDEN_UNITS, **layer}) + _section(
                "dropout", {"probability": 0.5}
            )
        return text + _section("connected", {"output": _CLASS_COUNT, "activation": "linear"}) + _section(self.loss, {})


def _section(name: str, keys: Keys) -> str:
    return f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in keys.items()) + "\n"


ALEXNET_CASES: Mapping[str, Case] = MappingProxyType(
    {
        "the mean loss, as in the textbook": Case({"loss_reduction": "darknet"}),
        SUMMED_LOSS: Case(),
        "batch_normalize=1": Case(layer={"batch_normalize": 1}),
        "layer_normalize=1": Case(layer={"layer_normalize": 1}),
        "group_normalize=8": Case(layer={"group_normalize": 8}),
        "learning_rate=.001": Case({"learning_rate": RATE / 10}),
        "grad_clip_norm=10": Case({"grad_clip_norm": 10}),
        "grad_clip_norm=.5": Case({"grad_clip_norm": 0.5}),
        "grad_clip_value=.1": Case({"grad_clip_value": 0.1}),
        "burn_in=100 power=1": Case({"burn_in": 100, "power": 1}),
        "constrain=1": Case({"constrain": 1}),
        "constrain=.1": Case({"constrain": 0.1}),
        "constrain=.01": Case({"constrain": 0.01}),
        MSRA_INIT: Case({"init": "msra"}),
        "activation=leaky": Case(layer={"activation": "leaky"}),
        "activation=prelu": Case(layer={"activation": "prelu"}),
        "mean=.286 std=.353": Case({"mean": 0.286, "std": 0.353}),
        "adam=1 eps=1e-4": Case({"adam": 1, "eps": 1e-4, "learning_rate": 0.001}),
        "[cost] of truths of 100, the mean loss": Case({"loss_reduction": "darknet"}, loss="cost", truth=100),
        "the same, constrain=1": Case({"loss_reduction": "darknet", "constrain": 1}, loss="cost", truth=100),
    }
)


def run(images: GrayImages, *, updates: int, seeds: int) -> Iterator[tuple[str, list[Outcome]]]:
    """Run each case with each seed."""
    for name, case in ALEXNET_CASES.items():
        yield name, [learn_case(case, images, updates=updates, seed=seed) for seed in range(seeds)]


def learn_case(case: Case, images: GrayImages, *, updates: int, seed: int = 0) -> Outcome:
    return learn(case.cfg, images, updates=updates, seed=seed, truth=case.truth)[1]
