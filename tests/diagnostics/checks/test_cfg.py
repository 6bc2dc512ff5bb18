"""What is seen in a cfg alone, beside what the planted faults show."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from darkpy.build import make_plan
from darkpy.diagnostics.checks.cfg import peak_rate
from darkpy.diagnostics.doctor import examine
from darkpy.finding import Finding

NET = "[net]\nwidth=32\nheight=32\nchannels=3\nbatch=64\nmax_batches=2000\nlearning_rate=.1\npolicy=poly\n"
LAYER = "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=relu\n"
CLASSIFIER = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n[avgpool]\n[softmax]\n"


def findings(text: str, tmp_path: Path) -> list[Finding]:
    (tmp_path / "my.cfg").write_text(text)
    return [one for one in examine(tmp_path / "my.cfg", None).findings if not one.is_note]


@pytest.mark.parametrize("key", ["batch_normalize=1", "group_normalize=4", "layer_normalize=1"])
def test_deep_stack_is_sound_with_any_normalization(tmp_path: Path, key: str) -> None:
    (found,) = findings(NET + 30 * LAYER + CLASSIFIER, tmp_path)
    assert found.name == "deep-without-norm"
    assert "31 layers with weights in a row" in found.message
    assert findings(NET + 30 * f"{LAYER}{key}\n" + CLASSIFIER, tmp_path) == []


def test_deep_stack_at_a_low_rate_is_what_vgg_has(tmp_path: Path) -> None:
    slow = NET.replace("learning_rate=.1", "learning_rate=.00001")
    assert findings(slow + 16 * LAYER + CLASSIFIER, tmp_path) == []
    assert [one.name for one in findings(slow + 30 * LAYER + CLASSIFIER, tmp_path)] == ["deep-without-norm"]


def test_network_without_a_loss_is_not_judged_as_a_training(tmp_path: Path) -> None:
    assert findings(NET.replace("rate=.1", "rate=100") + 30 * LAYER, tmp_path) == []


def test_batch_norm_of_single_numbers_is_found_at_its_line(tmp_path: Path) -> None:
    cell = "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=32\nactivation=relu\n"
    net = NET.replace("batch=64", "batch=64\nsubdivisions=64")
    (found,) = findings(net + cell + CLASSIFIER, tmp_path)
    assert (found.name, found.place) == ("norm-of-one", f"layer 0 [convolutional] {tmp_path}/my.cfg:11")
    assert findings(NET + cell + CLASSIFIER, tmp_path) == []
    assert findings(net + cell.replace("batch_normalize=1", "group_normalize=4") + CLASSIFIER, tmp_path) == []
    # cells of a map are as good as images
    assert findings(net + f"{LAYER}batch_normalize=1\n" + CLASSIFIER, tmp_path) == []


def test_heads_with_different_classes_are_found(tmp_path: Path) -> None:
    head = "[convolutional]\nfilters={}\nsize=1\nactivation=linear\n[yolo]\nclasses={}\nnum=1\nmask=0\nanchors=8,8\n"
    route = "[route]\nlayers=-3\n"
    net = NET.replace("rate=.1", "rate=.001")
    text = net + LAYER + head.format(7, 2) + route + head.format(8, 3)
    (found,) = findings(text, tmp_path)
    assert found.name == "classes-differ"
    assert "2 in layer 2, 3 in layer 5" in found.message
    assert findings(net + LAYER + head.format(7, 2) + route + head.format(7, 2), tmp_path) == []


@pytest.mark.parametrize(
    ("keys", "peak"),
    [
        ("learning_rate=.1", 0.1),
        ("learning_rate=.1\npolicy=poly\nmax_batches=100", 0.1 * 0.99**4),
        ("learning_rate=.001\npolicy=steps\nsteps=10,20\nscales=10,.1", 0.01),
        ("learning_rate=.1\nburn_in=50", 0.1),
        ("learning_rate=.1\npolicy=exp\ngamma=.9", 0.09),
    ],
)
def test_peak_of_a_schedule(keys: str, peak: float) -> None:
    net = make_plan(f"[net]\nwidth=8\nheight=8\nchannels=3\n{keys}\n\n[avgpool]\n").net
    assert peak_rate(net) == pytest.approx(peak)


def test_policy_that_makes_a_rate_of_0_is_named_and_not_the_rate(tmp_path: Path) -> None:
    found = findings(NET.replace("policy=poly", "policy=exp\ngamma=0") + LAYER + CLASSIFIER, tmp_path)
    (zero,) = (one for one in found if one.name == "rate-zero")
    assert zero.message == "policy=exp makes no rate above 0 of learning_rate=0.1: nothing is learned"
    assert zero.hints == ("policy=constant",) and zero.place.endswith("my.cfg:8")


def test_policy_that_gives_no_rate_is_an_error(tmp_path: Path) -> None:
    text = NET.replace("max_batches=2000\n", "") + LAYER + CLASSIFIER
    (found,) = findings(text, tmp_path)
    assert (found.name, found.severity.value) == ("schedule", "error")


VALUES = ("0", "-1", "1e30", "999999999", "nan", "abc", "", ".5", "3,2,1", "2147483647", "1e-30", "0,0,0,0", "-1,-1")


@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov2-tiny", "yolov1-tiny", "cifar", "resnet18"])
def test_whatever_stands_in_a_cfg_is_looked_at(tmp_path: Path, name: str) -> None:
    lines = (Path(__file__).resolve().parents[3] / f"cfg/{name}.cfg").read_text().splitlines()
    keyed = [number for number, line in enumerate(lines) if re.match(r"\w+ *=", line)]
    dice = random.Random(name)
    for _ in range(25):
        odd = list(lines)
        for number in dice.sample(keyed, 3):
            odd[number] = f"{odd[number].partition('=')[0]}={dice.choice(VALUES)}"
        (tmp_path / "odd.cfg").write_text("\n".join(odd))
        assert all(str(one) for one in examine(tmp_path / "odd.cfg", None).findings)
