"""Samples of the data sets, and images that are skipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from darkpy.config.net import NetSpec
from darkpy.config.tree import read_tree
from darkpy.data.augment.config import ClassificationAugmentConfig, DetectionAugmentConfig
from darkpy.data.augment.sampler import Sampler
from darkpy.data.loading.bad_files import Problem
from darkpy.data.loading.datasets import MAX_TRIES, ClassificationData, DetectionData, TrainingSample
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, ShapeError

PJREDDIE = NetSpec(dialect=Dialect.PJREDDIE, width=32, height=32)
ALEXEYAB = NetSpec(dialect=Dialect.ALEXEYAB, width=32, height=32)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place whose name has none of the words that pjreddie replaces."""
    return tmp_path_factory.mktemp("set")


def paint(path: Path, gray: int = 128) -> str:
    PIL.Image.fromarray(np.full((40, 60, 3), gray, np.uint8)).save(path)
    return str(path)


def detection(paths: list[str], net: NetSpec = ALEXEYAB, head: str = "yolo", seed: int = 1) -> DetectionData:
    augment_config = DetectionAugmentConfig.from_net(net, head, classes=3, max=5, jitter=0.1, side=4)
    return DetectionData(tuple(paths), augment_config, Sampler.for_detector(net, len(paths), seed))


def fields(index: TrainingSample) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    return index.paths, index.problems


@pytest.mark.parametrize("kind", ["detection", "classification"])
def test_draft_mode_of_a_large_jpeg_gives_a_similar_image_and_the_same_target(folder: Path, kind: str) -> None:
    PIL.Image.radial_gradient("L").resize((384, 256)).convert("RGB").save(folder / "cat.jpg", quality=95)
    (folder / "cat.txt").write_text("2 .5 .5 .5 .5\n")
    data: DetectionData | ClassificationData = detection([str(folder / "cat.jpg")], PJREDDIE)
    if kind == "classification":
        augment_config = ClassificationAugmentConfig.from_net(PJREDDIE)
        sampler = Sampler.for_classifier(PJREDDIE, 1, 1)
        data = ClassificationData((str(folder / "cat.jpg"),), augment_config, sampler, 2, ("cat", "dog"))
    for index in range(4):
        whole, draft = (replace(data, draft=one).make(index, 32, 32) for one in (False, True))
        torch.testing.assert_close(draft.truth, whole.truth, rtol=0, atol=0.05)
        assert (draft.x_CHW - whole.x_CHW).abs().mean() < 0.03 and not torch.equal(draft.x_CHW, whole.x_CHW)


class TestDetection:
    def test_each_dialect_and_head_gets_its_target(self, folder: Path) -> None:
        path = paint(folder / "a.png")
        (folder / "a.txt").write_text("2 .5 .5 .5 .5\n1 .4 .4 .2 .2\n")
        pj, ax, v1 = (
            detection([path], net, head).make(0, 32, 32)
            for net, head in ((PJREDDIE, "yolo"), (ALEXEYAB, "yolo"), (ALEXEYAB, "detection"))
        )
        assert [index.x_CHW.shape for index in (pj, ax, v1)] == [(3, 32, 32)] * 3
        assert [index.truth.shape for index in (pj, ax, v1)] == [(5, 5), (5, 6), (16, 8)]
        for index in (pj, ax):
            assert sorted(index.truth[:2, 4].tolist()) == [1, 2]
            assert index.truth[2:].abs().sum() == 0
        first_track = float(ax.truth[:2, 5].min())
        assert first_track % 4000 == 0
        assert sorted(ax.truth[:2, 5].tolist()) == [first_track, first_track + 1]
        assert v1.truth[:, 0].sum() in (1, 2)
        assert fields(ax) == ((path,), ())

    def test_size_and_channels_are_as_asked_for(self, folder: Path) -> None:
        path = paint(folder / "a.png")
        (folder / "a.txt").write_text("")
        data = replace(detection([path]), channels=1)
        assert data.make(0, 64, 96).x_CHW.shape == (1, 96, 64)
        with pytest.raises(ShapeError, match="not 4"):
            replace(data, channels=4).make(0, 64, 96)

    def test_a_bad_image_is_passed_over_and_reported(self, folder: Path) -> None:
        good, bad = paint(folder / "a.png"), str(folder / "b.png")
        Path(bad).write_bytes(b"no image")
        for name in ("a.txt", "b.txt"):
            (folder / name).write_text("1 .5 .5 .5 .5")
        slots = [detection([good, bad]).make(number, 32, 32) for number in range(40)]
        assert {index.paths for index in slots} == {(good,)}
        met = [problem for index in slots for problem in index.problems]
        assert 20 < len(met) < 70
        assert {(problem.is_label, problem.entry) for problem in met} == {(False, bad)}
        assert met[0].message.startswith(bad)

    def test_a_wrong_label_is_left_out_and_reported(self, folder: Path) -> None:
        path = paint(folder / "a.png")
        (folder / "a.txt").write_text("1 .5 .5 .5 .5\n3 .5 .5 .5 .5\n")
        index = detection([path]).make(0, 32, 32)
        assert index.truth[:, 4].tolist() == [1, 0, 0, 0, 0]
        text = f"{folder / 'a.txt'}:2: class 3 is not from 0 to 2"
        assert index.problems == (Problem(True, text, text),)

    def test_without_a_label_file_alexeyab_sees_no_objects_and_pjreddie_not_the_image(self, folder: Path) -> None:
        labeled, other = paint(folder / "a.png"), paint(folder / "b.png")
        (folder / "a.txt").write_text("1 .5 .5 .5 .5")
        missing = (False, str(folder / "b.txt"))
        for net, shown in ((ALEXEYAB, {(labeled,), (other,)}), (PJREDDIE, {(labeled,)})):
            slots = [detection([labeled, other], net).make(number, 32, 32) for number in range(30)]
            assert {index.paths for index in slots} == shown
            assert {problem[:2] for index in slots for problem in index.problems} == {missing}
        assert all(index.truth[:, 2].sum() == 0 for index in slots if index.paths == (other,))

    def test_nothing_usable_is_an_error(self, folder: Path) -> None:
        with pytest.raises(
            DarkpyError, match=f"^{MAX_TRIES} images in a row could not be used; of the last: .*none.txt"
        ):
            detection([str(folder / "none.png")], PJREDDIE).make(0, 32, 32)

    def test_a_class_without_a_place_reaches_pjreddies_region_alone(self, folder: Path) -> None:
        path = paint(folder / "a.png")
        (folder / "a.txt").write_text("2 0 0 0 0")
        assert detection([path], PJREDDIE, "region").make(0, 32, 32).truth[0].tolist() == [999999] * 4 + [2]
        assert detection([path], PJREDDIE, "yolo").make(0, 32, 32).truth.abs().sum() == 0

    def test_a_mosaic_names_its_four_images(self, folder: Path) -> None:
        paths = [paint(folder / f"{number}.png", number) for number in range(20)]
        data = detection(paths, replace(ALEXEYAB, mosaic=True))
        counts = {len(data.make(number, 32, 32).paths) for number in range(10)}
        assert counts == {1, 4}

    def test_contrastive_samples_show_one_image_twice(self, folder: Path) -> None:
        paths = [paint(folder / f"{number}.png", 8 * number) for number in range(20)]
        data = detection(paths, replace(ALEXEYAB, contrastive=True))
        for number in range(0, 20, 2):
            one, other = data.make(number, 32, 32), data.make(number + 1, 32, 32)
            assert one.paths == other.paths
            assert torch.equal(one.x_CHW, other.x_CHW)


class TestClassification:
    def data(self, paths: list[str], labels: tuple[str, ...] | None, classes: int = 3) -> ClassificationData:
        augment_config = ClassificationAugmentConfig.from_net(PJREDDIE)
        return ClassificationData(
            tuple(paths), augment_config, Sampler.for_classifier(PJREDDIE, len(paths), 1), classes, labels
        )

    def test_labels_are_found_in_the_path(self, folder: Path) -> None:
        index = self.data([paint(folder / "my-cat-1.png")], ("dog", "cat", "cow")).make(0, 32, 32)
        assert index.x_CHW.shape == (3, 32, 32)
        assert index.truth.tolist() == [0, 1, 0]
        assert index.problems == ()

    @pytest.mark.parametrize(
        ("name", "truth", "told"),
        [
            ("catfish.png", [0, 1, 1], "2 labels occur in this path: cat, fish"),
            ("bird.png", [0, 0, 0], "0 labels occur"),
        ],
    )
    def test_several_labels_or_none_are_reported_and_used(
        self, folder: Path, name: str, truth: list[int], told: str
    ) -> None:
        index = self.data([paint(folder / name)], ("dog", "cat", "fish")).make(0, 32, 32)
        assert index.truth.tolist() == truth
        assert len(index.problems) == 1
        assert index.problems[0].is_label
        assert told in index.problems[0].message

    def test_a_single_class_may_be_absent(self, folder: Path) -> None:
        index = self.data([paint(folder / "bird.png")], ("cat",), classes=1).make(0, 32, 32)
        assert (index.truth.tolist(), index.problems) == ([0], ())

    def test_smoothing_takes_from_the_label(self, folder: Path) -> None:
        data = self.data([paint(folder / "cat.png")], ("dog", "cat", "cow"))
        smooth = replace(data, augment_config=replace(data.augment_config, label_smooth_eps=0.2))
        assert smooth.make(0, 32, 32).truth.tolist() == pytest.approx([0.1, 0.8, 0.1])

    def test_tags_come_from_files(self, folder: Path) -> None:
        tagged, untagged = paint(folder / "a.png"), paint(folder / "b.png")
        (folder / "a.txt").write_text("0\n2\n9")
        index = self.data([tagged], None).make(0, 32, 32)
        assert index.truth.tolist() == [1, 0, 1]
        assert [problem.is_label for problem in index.problems] == [True]
        index = self.data([untagged], None).make(0, 32, 32)
        assert index.truth.tolist() == [0, 0, 0]
        assert [problem.is_label for problem in index.problems] == [False]

    def test_a_tree_makes_ancestors_true(self, folder: Path) -> None:
        (folder / "x.tree").write_text("animal -1\nplant -1\ncat 0\n")
        data = self.data([paint(folder / "cat.png")], ("animal", "plant", "cat"))
        data = replace(data, tree=read_tree(folder / "x.tree"))
        assert data.make(0, 32, 32).truth.tolist() == [1, 0, 1]

    def test_inconsistent_options_are_errors(self, folder: Path) -> None:
        (folder / "x.tree").write_text("animal -1\nplant -1\n")
        data = self.data(["a.png"], ("a", "b", "c"))
        with pytest.raises(DarkpyError, match="2 labels for 3 classes"):
            replace(data, labels=("a", "b"))
        with pytest.raises(DarkpyError, match="the tree has 2 classes, the data set 3"):
            replace(data, tree=read_tree(folder / "x.tree"))
        with pytest.raises(DarkpyError, match="cannot be combined with a tree"):
            mixed = replace(data.augment_config, mixing=1)
            replace(data, classes=2, labels=("a", "b"), tree=read_tree(folder / "x.tree"), augment_config=mixed)
