"""Faults planted in a healthy cfg and its data: each is found, named by its kind, at the right place."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.diagnostics.conftest import Case

Found = tuple[str, str]
"""The kind of a finding, and its place."""


def label_line(case: Case, line: str) -> Found:
    case.label(3).write_text(f"0 .5 .5 .3 .3\n{line}\n")
    return "label-line", f"{case.label(3)}:2"


def box_outside(case: Case) -> Found:
    return label_line(case, "1 1.4 .5 .2 .2")


def box_without_size(case: Case) -> Found:
    return label_line(case, "1 .5 .5 0 .2")


def class_beyond_classes(case: Case) -> Found:
    return label_line(case, "4 .5 .5 .2 .2")


def line_of_words(case: Case) -> Found:
    return label_line(case, "circle .5 .5 .2 .2")


def box_over_the_edge(case: Case) -> Found:
    case.label(3).write_text("0 .5 .5 .3 .3\n1 .9 .5 .4 .2\n")
    return "box-over-edge", f"{case.label(3)}:2"


def tiny_box(case: Case) -> Found:
    case.label(3).write_text("0 .5 .5 .3 .3\n1 .2 .5 .01 .2\n")
    return "box-tiny", f"{case.label(3)}:2"


def huge_box(case: Case) -> Found:
    case.label(3).write_text("0 .5 .5 1 1\n")
    return "box-huge", f"{case.label(3)}:1"


def box_twice(case: Case) -> Found:
    case.label(3).write_text("0 .5 .5 .3 .3\n1 .2 .2 .3 .3\n0 .5 .501 .3 .3\n")
    return "box-repeated", f"{case.label(3)}:3"


def more_boxes_than_max(case: Case) -> Found:
    case.edit("sample.cfg", "num=3\n", "num=3\nmax=3\n")
    case.label(0).write_text("0 .2 .2 .2 .2\n1 .7 .2 .2 .2\n2 .2 .7 .2 .2\n3 .7 .7 .2 .2\n")
    return "too-many-boxes", str(case.label(0))


def label_missing(case: Case) -> Found:
    case.label(3).unlink()
    return "label-missing", str(case.label(3))


def hardly_any_object(case: Case) -> Found:
    for number in range(16):
        case.label(number).write_text("")
    return "images-empty", str(case.folder / "train.txt")


def class_without_an_object(case: Case) -> Found:
    for number in range(24):
        text = case.label(number).read_text()
        case.label(number).write_text(re.sub(r"^2 ", "1 ", text, flags=re.MULTILINE))
    return "classes-absent", str(case.folder / "train.txt")


def corrupt_jpeg(case: Case) -> Found:
    data = bytearray(case.image(3).read_bytes())
    data[20:200] = bytes(180)
    case.image(3).write_bytes(data)
    return "image-unreadable", str(case.image(3))


def truncated_jpeg(case: Case) -> Found:
    data = case.image(3).read_bytes()
    case.image(3).write_bytes(data[: len(data) // 2])
    return "image-unreadable", str(case.image(3))


def text_for_an_image(case: Case) -> Found:
    case.image(3).write_text("<html>not found</html>")
    return "image-unreadable", str(case.image(3))


def image_missing(case: Case) -> Found:
    case.image(3).unlink()
    return "image-missing", str(case.image(3))


def same_bytes_in_valid(case: Case) -> Found:
    shutil.copy(case.image(3), case.image(2, "valid"))
    shutil.copy(case.label(3), case.label(2, "valid"))
    return "leak", str(case.image(2, "valid"))


def same_image_in_valid_written_anew(case: Case) -> Found:
    Image.open(case.image(3)).resize((128, 128)).save(case.image(2, "valid"), quality=75)
    shutil.copy(case.label(3), case.label(2, "valid"))
    return "leak", str(case.image(2, "valid"))


def valid_is_train(case: Case) -> Found:
    case.edit("sample.data", "valid.txt", "train.txt")
    return "valid-is-train", str(case.folder / "train.txt")


def copy_with_other_labels(case: Case) -> Found:
    shutil.copy(case.image(3), case.image(7))
    return "copy-labelled-otherwise", str(case.image(7))


def empty_list(case: Case) -> Found:
    (case.folder / "train.txt").write_text("\n")
    return "image-list", str(case.folder / "train.txt")


def list_missing(case: Case) -> Found:
    (case.folder / "valid.txt").unlink()
    return "image-list", str(case.folder / "valid.txt")


def fewer_names(case: Case) -> Found:
    (case.folder / "sample.names").write_text("circle\nsquare\ncross\n")
    return "names-count", str(case.folder / "sample.names")


def name_twice(case: Case) -> Found:
    (case.folder / "sample.names").write_text("circle\nsquare\ncross\ncross\n")
    return "names-repeated", f"{case.folder / 'sample.names'}:4"


def other_classes_in_data(case: Case) -> Found:
    case.edit("sample.data", "classes=4", "classes=3")
    return "classes-count", str(case.data)


def stride_beyond_pool(case: Case) -> Found:
    case.edit("sample.cfg", "size=2\nstride=2", "size=2\nstride=3")
    return "stride-beyond-size", f"layer 1 [maxpool] {case.line('stride=3', '[maxpool]')}"


def stride_beyond_convolution(case: Case) -> Found:
    case.edit("sample.cfg", "filters=8\nsize=3\nstride=1", "filters=8\nsize=3\nstride=4")
    return "stride-beyond-size", f"layer 0 [convolutional] {case.line('stride=4', '[conv')}"


def filters_before_the_head(case: Case) -> Found:
    case.edit("sample.cfg", "filters=27", "filters=26")
    return "cfg", f"layer 10 [yolo] {case.line('[yolo]', '[net]')}"


def activation_before_the_head(case: Case) -> Found:
    case.edit("sample.cfg", "activation=linear", "activation=leaky")
    return "head-activation", f"layer 9 [convolutional] {case.line('activation=', '27')}"


def norm_before_the_head(case: Case) -> Found:
    case.edit("sample.cfg", "filters=27", "batch_normalize=1\nfilters=27")
    return "head-normalized", f"layer 9 [convolutional] {case.line('batch_normalize', '# Head')}"


def anchors_three_times_too_large(case: Case) -> Found:
    case.edit("sample.cfg", "24,24, 31,31, 42,42", "72,72, 93,93, 126,126")
    return "anchors", f"layer 10 [yolo] {case.line('anchors=', '[net]')}"


def anchors_three_times_too_small(case: Case) -> Found:
    case.edit("sample.cfg", "24,24, 31,31, 42,42", "8,8, 10,10, 14,14")
    return "anchors", f"layer 10 [yolo] {case.line('anchors=', '[net]')}"


def anchors_beyond_the_input(case: Case) -> Found:
    case.edit("sample.cfg", "42,42", "420,420")
    return "anchors-beyond-input", f"layer 10 [yolo] {case.line('anchors=', '[net]')}"


def anchors_missing(case: Case) -> Found:
    case.edit("sample.cfg", ", 42,42", "")
    return "missing-anchors", f"layer 10 [yolo] {case.line('anchors=', '[net]')}"


def no_norm_in_a_deep_stack(case: Case) -> Found:
    block = "[convolutional]\nfilters=64\nsize=3\nstride=1\npad=1\nactivation=leaky\n\n"
    case.edit("sample.cfg", "# Head", f"{12 * block}# Head")
    return "deep-without-norm", f"layer 21 [convolutional] {case.line('[conv', '# Head')}"


def class_with_two_boxes_in_valid(case: Case) -> Found:
    for number in range(8):
        case.label(number, "valid").write_text(
            "".join(f"{c} .{c + 2} .5 .2 .{n}\n" for c in range(3) for n in (2, 3, 4))
        )
    with case.label(0, "valid").open("a") as stream:
        stream.write("3 .5 .5 .4 .4\n3 .5 .5 .3 .3\n")
    return "valid-rare", str(case.folder / "valid.txt")


def rate_that_needs_batch_norm(case: Case) -> Found:
    text = case.cfg.read_text()
    case.cfg.write_text(text.replace("batch_normalize=1\n", ""))
    last = [line for line, words in enumerate(case.cfg.read_text().splitlines(), 1) if words == "[convolutional]"][-1]
    return "deep-without-norm", f"layer 9 [convolutional] {case.cfg}:{last}"


def unknown_section(case: Case) -> Found:
    case.edit("sample.cfg", "[maxpool]", "[maxpol]")
    return "cfg", f"layer 1 [maxpol] {case.line('[maxpol]', '[net]')}"


def misspelt_key(case: Case) -> Found:
    case.edit("sample.cfg", "learning_rate=", "leaning_rate=")
    return "cfg", f"[net] {case.line('leaning_rate', '[net]')}"


def net_key(case: Case, kind: str, old: str, new: str) -> Found:
    case.edit("sample.cfg", old, new)
    return kind, f"[net] {case.line(new.partition('=')[0] + '=', '[net]')}"


def rate_times_100(case: Case) -> Found:
    return net_key(case, "rate-too-high", "learning_rate=0.02", "learning_rate=2")


def rate_of_0(case: Case) -> Found:
    return net_key(case, "rate-zero", "learning_rate=0.02", "learning_rate=0")


def rate_of_a_ten_millionth(case: Case) -> Found:
    return net_key(case, "rate-too-low", "learning_rate=0.02", "learning_rate=0.0000001")


def start_at_the_full_rate(case: Case) -> Found:
    case.edit("sample.cfg", "burn_in=100", "burn_in=0")
    return "cold-start", f"[net] {case.line('learning_rate', '[net]')}"


def burn_in_without_end(case: Case) -> Found:
    return net_key(case, "burn-in-too-long", "burn_in=100", "burn_in=2000")


def steps_beyond_the_end(case: Case) -> Found:
    return net_key(case, "steps-beyond-end", "steps=1100,1400", "steps=400000,450000")


def steps_out_of_order(case: Case) -> Found:
    return net_key(case, "steps-unordered", "steps=1100,1400", "steps=1400,1100")


def steps_in_the_burn_in(case: Case) -> Found:
    return net_key(case, "steps-in-burn-in", "steps=1100,1400", "steps=50,1400")


def momentum_of_9(case: Case) -> Found:
    return net_key(case, "momentum-range", "momentum=0.9", "momentum=9")


def decay_of_5(case: Case) -> Found:
    return net_key(case, "decay-range", "decay=0.0005", "decay=5")


def lines_for_testing(case: Case) -> Found:
    return net_key(case, "batch", "batch=8", "batch=1")


def more_subdivisions_than_images(case: Case) -> Found:
    case.edit("sample.cfg", "subdivisions=1", "subdivisions=16")
    return "batch", f"[net] {case.line('batch=', '[net]')}"


def ends_at_once(case: Case) -> Found:
    case.edit("sample.cfg", "burn_in=100", "burn_in=0")
    case.edit("sample.cfg", "steps=1100,1400", "steps=1,1")
    return net_key(case, "too-short", "max_batches=1500", "max_batches=2")


def no_end(case: Case) -> Found:
    case.edit("sample.cfg", "max_batches=1500", "")
    return "schedule", f"[net] {case.line('[net]', '[net]')}"


FAULTS: list[Callable[[Case], Found]] = [
    value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__ and name not in ("label_line", "net_key")
]


def test_the_data_without_a_fault_are_healthy(case: Case) -> None:
    assert case.findings() == []


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_planted_fault_is_found_at_its_place_and_brings_few_others(case: Case, plant: Callable[[Case], Found]) -> None:
    """Two kinds at most: consequences of a fault are reported, too."""
    kind, place = plant(case)
    findings = case.findings()
    assert (kind, place) in [(one.name, one.place) for one in findings]
    told = next(one for one in findings if (one.name, one.place) == (kind, place))
    assert told.message
    assert len({one.name for one in findings}) <= (4 if plant in (ends_at_once, empty_list) else 2)


def test_there_are_30_faults() -> None:
    assert len(FAULTS) >= 30


def test_faults_come_in_the_order_of_mending(case: Case) -> None:
    for plant in (stride_beyond_pool, steps_beyond_the_end, box_without_size):
        plant(case)
    assert [one.cause.name for one in case.findings()] == ["DATA", "RATES", "OPERATIONS"]


def test_all_faults_of_a_cfg_are_reported_and_its_data_are_still_checked(case: Case) -> None:
    for plant in (filters_before_the_head, unknown_section, box_without_size):
        plant(case)
    places = [one.place for one in case.findings()]
    assert f"{case.label(3)}:2" in places
    assert any("[maxpol]" in place for place in places)


def test_labels_where_only_the_other_darknet_looks_are_read_with_one_warning(case: Case) -> None:
    folder = case.folder / "images"
    (case.folder / "train").rename(folder)
    (case.folder / "labels").mkdir()
    for label in folder.glob("*.txt"):
        label.rename(case.folder / "labels" / label.name)
    case.edit("train.txt", "/train/", "/images/", count=100)
    assert case.findings(dialect="pjreddie") == []
    (finding,) = case.findings(dialect="alexeyab")
    assert finding.severity.value == "warning"
    assert "are read where only the other darknet looks" in str(finding)
    assert "--dialect" not in str(finding)


def test_a_cfg_that_cannot_be_read_is_the_users_mistake(tmp_path: Path) -> None:
    from darkpy.diagnostics.doctor import examine
    from darkpy.errors import ConfigError

    with pytest.raises(ConfigError):
        examine(tmp_path / "none.cfg", None)


@pytest.mark.parametrize(
    ("suffix", "hidden"), [(".txt", {"label-missing"}), (".jpg", {"image-missing", "label-missing"})]
)
def test_files_that_are_all_absent_are_one_finding(case: Case, suffix: str, hidden: set[str]) -> None:
    for split in ("train", "valid"):
        for file in (case.folder / split).glob(f"*{suffix}"):
            file.unlink()
    names = [finding.name for finding in case.examine().findings]
    assert names.count("labels-absent" if suffix == ".txt" else "images-absent") == 1
    assert not hidden & set(names)


def test_list_that_is_both_training_and_validation_list_is_one_finding_if_it_cannot_be_read(case: Case) -> None:
    (case.folder / "train.txt").write_bytes(b"a.jpg\0\n")
    case.edit("sample.data", str(case.folder / "valid.txt"), str(case.folder / "train.txt"))
    assert [finding.name for finding in case.examine().findings].count("image-list") == 1


def test_blank_line_among_the_names_is_reported_by_its_number(case: Case) -> None:
    names = (case.folder / "sample.names").read_text()
    (case.folder / "sample.names").write_text(f"\n{names}")
    (message,) = [finding.message for finding in case.examine().findings if finding.name == "names-count"]
    assert message.startswith("holds 5 names (line 1 is blank), but ")
