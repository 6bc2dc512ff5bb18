"""The articles' cases on synthetic images, with as few updates as show the failure."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from darkpy.config.net import NetSpec
from darkpy.config.schema import keys_of
from darkpy.layers.base import SECTION_SPECS
from tools.articles import alexnet, anchors, pooling, runs
from tools.articles.command import main
from tools.articles.images import CLASS_COUNT, GrayImages, draw_images, load_images
from tools.fashion_mnist import IDX_FOLDER

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "when-a-run-goes-wrong.md"
MSRA_CASE = alexnet.ALEXNET_CASES[alexnet.MSRA_INIT]
UPDATES = 12


@pytest.fixture(scope="module")
def images() -> GrayImages:
    return draw_images()


def test_synthetic_images_are_gray_classes_on_black(images: GrayImages) -> None:
    assert images.x_B1HW.shape == (2048, 1, 28, 28)
    assert float(images.x_B1HW.min()) >= 0 and 0.9 < float(images.x_B1HW.max()) <= 1
    assert 0.15 < float(images.x_B1HW.mean()) < 0.45
    assert set(images.y_B.tolist()) == set(range(CLASS_COUNT))
    assert torch.equal(draw_images().x_B1HW, images.x_B1HW)


@pytest.mark.parametrize("seed", [0, 3])
def test_alexnet_overflows_and_the_monitor_names_layer_and_cause_before(images: GrayImages, seed: int) -> None:
    _, outcome = runs.learn(MSRA_CASE.cfg, images, updates=UPDATES, seed=seed)
    assert (
        outcome.nonfinite_update is not None
        and outcome.verdict == f"NaN or infinity at update {outcome.nonfinite_update}"
    )
    findings = runs.find_symptoms(MSRA_CASE.cfg, images, updates=UPDATES, seed=seed)
    *before, last = findings
    assert (last.name, last.batch_num) == ("NonFinite", outcome.nonfinite_update) and last.place.startswith("layer ")
    causes = [finding for finding in before if finding.name == "Exploding"]
    assert causes and causes[0].batch_num < outcome.nonfinite_update and causes[0].place.startswith("layer ")
    assert "rate x gradient" in causes[0].message
    assert any("batch_normalize=1" in hint for hint in causes[0].hints)


@pytest.mark.parametrize(
    "name",
    ["batch_normalize=1", "learning_rate=.001", "grad_clip_norm=10", "grad_clip_value=.1", "adam=1 eps=1e-4"],
)
def test_each_remedy_keeps_it_from_overflowing(images: GrayImages, name: str) -> None:
    case = alexnet.ALEXNET_CASES[name]
    cfg = replace(case, net={**case.net, "init": "msra"}).cfg
    _, outcome = runs.learn(cfg, images, updates=UPDATES)
    assert outcome.nonfinite_update is None and outcome.loss < 10 and math.isfinite(outcome.norm)


def test_constraint_alone_does_not_for_no_delta_of_a_softmax_is_above_one(images: GrayImages) -> None:
    cfg = replace(MSRA_CASE, net={**MSRA_CASE.net, "constrain": 1}).cfg
    assert runs.learn(cfg, images, updates=UPDATES)[1].nonfinite_update is not None


def test_constraint_does_where_deltas_are_large(images: GrayImages) -> None:
    unbounded, bound = (
        alexnet.ALEXNET_CASES[name] for name in ("[cost] of truths of 100, the mean loss", "the same, constrain=1")
    )
    assert alexnet.learn_case(unbounded, images, updates=UPDATES).nonfinite_update is not None
    bounded = alexnet.learn_case(bound, images, updates=UPDATES)
    assert bounded.nonfinite_update is None and bounded.loss < bounded.first_loss


def test_norm_behind_a_maximum_bounds_what_the_next_layer_is_given(images: GrayImages) -> None:
    plain, normed = (pooling.measure(name, images, updates=25) for name in ("[maxpool]", "[maxpool] [l2norm]"))
    assert normed.normed <= 1.0001 < plain.normed == plain.largest
    assert 0 < plain.zeros < 1 and 0 < normed.zeros < 1


def test_anchors_three_times_too_large_are_found_before_and_in_a_training(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    anchors.write_images(folder)
    assert anchors.find_mismatch(folder, 1, updates=4) == anchors.AnchorFindings("", "")
    findings = anchors.find_mismatch(folder, 3, updates=4)
    path = re.escape(str(folder / "anchors_x3.cfg"))
    assert re.match(rf"layer 10 \[yolo\] {path}:\d+: anchors are 3\.\d times too large", findings.doctor)
    assert re.match(
        rf"{path}:\d+: \[yolo\] layer 10, update \d: boxes overlap with their best anchor by",
        findings.monitor,
    )


def test_tool_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    threads = str(torch.get_num_threads())
    main(["pooling", "--updates", "1", "--seeds", "1", "--source", "nowhere", "--threads", threads])
    printed = capsys.readouterr()
    heading, rule, *rows = printed.out.splitlines()
    assert heading.count("|") == rule.count("|") == rows[0].count("|")
    assert [row.split("`")[1] for row in rows] == list(pooling.POOLING_CASES)
    assert printed.err.startswith("2048 synthetic images")


@pytest.mark.slow
@pytest.mark.skipif(not IDX_FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_maximum_leaves_many_more_zeros_than_a_mean_on_fashion_mnist() -> None:
    images = load_images(IDX_FOLDER)
    names = ("[avgpool]", "[maxpool]", "[maxpool] [l2norm] scale=10")
    mean, largest, normed = (pooling.measure(name, images, updates=300) for name in names)
    assert mean.zeros < 0.25 and largest.zeros > 0.3 and normed.zeros < 0.25


def test_page_names_no_key_that_there_is_not() -> None:
    known = {*keys_of(NetSpec), *(key for spec in SECTION_SPECS.values() for key in keys_of(spec))}
    table = PAGE.read_text().partition("| key | where |")[2].partition("\n\n")[0]
    named = {match for row in table.splitlines() for match in re.findall(r"`(\w+)=", row.partition(" | ")[0])}
    assert len(named) > 20 and named <= known
