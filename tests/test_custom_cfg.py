"""Cfgs for one's own data: every published detector becomes one in which nothing is found."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from darkpy.build import make_plan
from darkpy.custom_cfg import CustomCfg, describe, make_custom_cfg
from darkpy.data.lists.text_files import read_data
from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
from darkpy.diagnostics.doctor import examine
from darkpy.errors import ConfigError, DarkpyError
from darkpy.layers.head import HeadSpec

ROOT = Path(__file__).resolve().parents[1]
DETECTORS = sorted(
    path.stem
    for path in (ROOT / "cfg").glob("*.cfg")
    if re.search(r"(?m)^\[(yolo|region|detection)\]", path.read_text())
)
SMALL = ("yolov1-tiny", "yolov2-tiny", "yolov3-tiny", "yolov4-tiny", "yolov7-tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("custom") / "shapes"
    for _ in write_synthetic_dataset(SyntheticConfig(images=12, valid=4, size=96, seed=0), folder):
        pass
    return folder / "sample.data"


def heads(custom: CustomCfg) -> list[HeadSpec]:
    return [node.spec for node in custom.plan.nodes if isinstance(node.spec, HeadSpec)]


@pytest.mark.parametrize("name", DETECTORS)
def test_nothing_is_found_in_a_cfg_made_for_the_data(name: str, data: Path, tmp_path: Path) -> None:
    custom = make_custom_cfg(name, data)
    (tmp_path / "my.cfg").write_text(custom.text)
    exam = examine(tmp_path / "my.cfg", read_data(data))
    if name in SMALL:
        for _ in exam.survey():
            pass
    assert [str(finding) for finding in exam.findings if not finding.is_note] == []
    net = custom.plan.net
    assert (net.batch, net.subdivisions, net.max_batches) == (64, 16, 8000)
    assert net.policy != "steps" or net.steps[-2:] == (6400, 7200)
    assert {spec.class_count for spec in heads(custom)} == {4}


@pytest.mark.parametrize("name", SMALL)
def test_all_lines_but_the_changed_ones_stay(name: str, data: Path) -> None:
    custom = make_custom_cfg(name, data)
    before = (ROOT / "cfg" / f"{name}.cfg").read_text().splitlines()
    title, *after = custom.text.splitlines()
    assert title.startswith(f"# {name}.cfg for sample.data: 4 classes, ")
    comments = [line for line in before if line.startswith("#")]
    assert [line for line in after if line.startswith("#")] == comments
    added = [change for change in custom.changes if change.old is None]
    assert len(after) == len(before) + len(added)
    changed = [line for line in before if line not in set(after)]
    assert len(changed) <= len(custom.changes) - len(added)


def test_masks_of_yolov4_tiny_become_those_of_its_maps(data: Path) -> None:
    """The published cfg uses anchor 3 twice and anchor 0 never; its finest map is the last head's."""
    assert [getattr(spec, "mask", ()) for spec in heads(make_custom_cfg("yolov4-tiny", data))] == [(3, 4, 5), (0, 1, 2)]


def test_every_change_is_described_with_its_reason(data: Path) -> None:
    custom = make_custom_cfg("yolov4-tiny", data, size=(608, 352))
    lines = list(describe(custom))
    assert "[net] width=608 (was 416): the requested input size" in lines
    assert "[net] max_batches=8000 (was 2000200): the largest of 6000, 2000 x 4 classes, 12 images" in lines
    assert any(line.startswith("layers 30, 37 [yolo] classes=4 (was 80)") for line in lines)
    assert custom.plan.input_shape == (3, 352, 608)
    for change in custom.changes:
        section = custom.plan.net_section if change.edit.layer is None else custom.plan.nodes[change.edit.layer].section
        assert section.entries[change.edit.key].value == change.edit.value.replace(" ", "")


def test_schedule_is_longer_for_more_classes_and_more_images(data: Path, tmp_path: Path) -> None:
    (tmp_path / "one.names").write_text("thing\n")
    train = read_data(data).entries["train"]
    (tmp_path / "one.data").write_text(f"train={train}\nnames={tmp_path}/one.names\n")
    assert make_custom_cfg("yolov4-tiny", tmp_path / "one.data").plan.net.max_batches == 6000
    many = "".join(Path(train).read_text() for _ in range(800))
    (tmp_path / "many.txt").write_text(many)
    (tmp_path / "one.data").write_text(f"train={tmp_path}/many.txt\nnames={tmp_path}/one.names\n")
    assert make_custom_cfg("yolov4-tiny", tmp_path / "one.data").plan.net.max_batches == 9600


def test_rising_steps_at_the_start_are_kept(data: Path) -> None:
    net = make_custom_cfg("yolov1", data).plan.net
    assert net.steps == (200, 400, 600, 6400, 7200)
    assert net.scales == (2.5, 2, 2, 0.1, 0.1)


def test_same_seed_gives_the_same_text(data: Path) -> None:
    assert make_custom_cfg("yolov3-tiny", data).text == make_custom_cfg("yolov3-tiny", data).text


def test_size_that_does_not_fit_is_refused_with_one_that_does(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"multiples of 32 \(the largest stride\); nearest: 384 x 384"):
        make_custom_cfg("yolov3-tiny", data, size=(400, 400))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("yolov4-tini", "yolov4-tini: no such file, and no network of this name"),
        ("none.cfg", "none.cfg: no such cfg"),
        ("alexnet", "the cfg has no detection head"),
    ],
)
def test_template_without_use_is_refused(template: str, message: str, data: Path) -> None:
    with pytest.raises(DarkpyError, match=message):
        make_custom_cfg(template, data)


def test_names_that_contradict_the_data_file_are_refused(data: Path, tmp_path: Path) -> None:
    shutil.copy(data, tmp_path / "my.data")
    text = re.sub("classes *= *4", "classes=3", data.read_text())
    (tmp_path / "my.data").write_text(text)
    with pytest.raises(DarkpyError, match=r"classes=3, but .* holds 4 names"):
        make_custom_cfg("yolov3-tiny", tmp_path / "my.data")


def test_cfg_of_ones_own_is_a_template_too(data: Path, tmp_path: Path) -> None:
    custom = make_custom_cfg("yolov3-tiny", data)
    (tmp_path / "my.cfg").write_text(custom.text)
    again = make_custom_cfg(tmp_path / "my.cfg", data)
    assert again.changes == ()
    assert make_plan(f"{again.text}\n").nodes[-1].spec == custom.plan.nodes[-1].spec
