"""Planted mistakes in lists, labels and cfgs: each is named once, at its place, and its first advice fixes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from darkpy.__main__ import main
from darkpy.config.edit import apply_remedy
from darkpy.finding import Finding
from tests.diagnostics import test_label_repair as systematic
from tests.diagnostics import test_planted_faults as planted
from tests.diagnostics.checks.test_planted_in_cfg import PLANTED
from tests.diagnostics.conftest import Case
from tests.diagnostics.monitor.test_advice_cures import FAULTS as CURED_RUNS
from tests.diagnostics.test_planted_faults import Found, net_key
from tests.diagnostics.test_planted_in_training import FAULTS as IN_TRAINING

Cure = Callable[[Case, Finding, Path], Case | None]
"""Does what the first hint of a finding says; the last argument is the folder without a mistake."""


class Mistake(NamedTuple):
    """plant: makes the mistake, and returns the kind of its finding with the place. says: part of the first hint."""

    plant: Callable[[Case], Found]
    cure: Cure
    says: str


# cures


def edited(case: Case, finding: Finding, healthy: Path) -> None:
    """Make the edits of the first remedy."""
    case.cfg.write_text(apply_remedy(case.cfg.read_text(), finding.remedies[0]))


def corrected(case: Case, finding: Finding, healthy: Path) -> None:
    """Correct the file that the finding names, and no other one."""
    restore(case, healthy, Path(finding.location.file).relative_to(case.folder))


def restore(case: Case, healthy: Path, name: Path | str) -> None:
    data = (healthy / name).read_bytes()
    (case.folder / name).unlink(missing_ok=True)
    (case.folder / name).write_bytes(data.replace(bytes(healthy), bytes(case.folder)))


def labeled_again(case: Case, finding: Finding, healthy: Path) -> None:
    """Correct all labels, where the advice is to give other images."""
    for file in healthy.glob("*/*.txt"):
        restore(case, healthy, file.relative_to(healthy))


def cleaned(case: Case, finding: Finding, healthy: Path) -> None:
    """Run the first command that the finding names."""
    remedy = next(remedy for remedy in finding.remedies if remedy.command)
    assert remedy.command[:3] == ("darkpy", "dataset", "clean") and str(remedy) in finding.hints
    assert main(remedy.command[1:]) == 0


def unlisted(case: Case, finding: Finding, healthy: Path) -> None:
    """Remove the image from the training list."""
    image_list = case.folder / "train.txt"
    lines = image_list.read_text().splitlines()
    assert finding.location.file in lines
    image_list.write_text("".join(f"{line}\n" for line in lines if line != finding.location.file))


def anchors_written(case: Case, finding: Finding, healthy: Path) -> None:
    assert main(["anchors", str(case.data), "--cfg", str(case.cfg), "--write"]) == 0


def repaired(case: Case, finding: Finding, healthy: Path) -> Case:
    return systematic.follow_advice(case)


def set_in_data(case: Case, finding: Finding, healthy: Path) -> None:
    key, _, value = finding.hints[0].partition("=")
    text = re.sub(rf"(?m)^{key}=.*", f"{key}={value}", case.data.read_text())
    case.data.write_text(text)


def as_meant(case: Case, finding: Finding, healthy: Path) -> None:
    """Write the word that is meant in the line that the finding names."""
    match = re.match(r"did you mean (\w+)", finding.hints[0])
    line = finding.location.line
    assert match is not None and line is not None
    lines = case.cfg.read_text().splitlines()
    lines[line - 1] = re.sub(r"\w+", match[1], lines[line - 1], count=1)
    case.cfg.write_text("\n".join(lines) + "\n")


def other_valid(case: Case, finding: Finding, healthy: Path) -> None:
    restore(case, healthy, "sample.data")


# more mistakes in lists and names


def in_list(write: Callable[[str], bytes]) -> Callable[[Case], Found]:
    def plant(case: Case) -> Found:
        file = case.folder / "train.txt"
        file.write_bytes(write(file.read_text()))
        return "image-list", str(file)

    return plant


def list_is_a_folder(case: Case) -> Found:
    case.edit("sample.data", "train.txt", "train")
    return "image-list", str(case.folder / "train")


def names_with_a_blank_line(case: Case) -> Found:
    case.edit("sample.names", "square\n", "\nsquare\n")
    return "names-count", str(case.folder / "sample.names")


def names_in_one_line(case: Case) -> Found:
    (case.folder / "sample.names").write_text("circle square triangle cross\n")
    return "names-count", str(case.folder / "sample.names")


def names_are_binary(case: Case) -> Found:
    (case.folder / "sample.names").write_bytes(b"circle\0square\n")
    return "names", str(case.folder / "sample.names")


def image_of_another_suffix(case: Case) -> Found:
    case.image(3).rename(case.image(3).with_suffix(".JPEG"))
    return "image-missing", str(case.image(3))


def named_in_the_list(case: Case, finding: Finding, healthy: Path) -> None:
    match = re.match(r"there is (\S+): write its name", finding.hints[0])
    assert match is not None
    case.edit("train.txt", finding.location.file, match[1])


# more mistakes in labels


def in_labels(mistake: str) -> Callable[[Case], Found]:
    def plant(case: Case) -> Found:
        systematic.plant(case, mistake)
        return "labels-unusable", ""  # in the first file with such a box

    return plant


def in_every_label(change: Callable[[str], str]) -> Callable[[Case], Found]:
    def plant(case: Case) -> Found:
        for file in case.folder.glob("*/*.txt"):
            file.write_text("".join(change(line) + "\n" for line in file.read_text().splitlines()))
        return "labels-unusable", ""

    return plant


def label_line(line: str) -> Callable[[Case], Found]:
    return lambda case: planted.label_line(case, line)


def labels_on_one_line(case: Case) -> Found:
    case.label(3).write_text("0 .5 .5 .3 .3 1 .2 .2 .2 .2\n")
    return "label-line", f"{case.label(3)}:1"


def all_labels_absent(case: Case) -> Found:
    for file in (case.folder / "train").glob("*.txt"):
        file.unlink()
    return "labels-absent", ""


def label_of_another_encoding(case: Case) -> Found:
    case.label(3).write_bytes(b"\xff\xfe\0\0" + case.label(3).read_text().encode("utf-32-le"))
    return "label-missing", str(case.label(3))


def label_in_utf_16(case: Case) -> Found:
    case.label(3).write_bytes(b"\xff\xfe" + case.label(3).read_text().encode("utf-16-le"))
    return "label-line", str(case.label(3))


def names_in_cp1252(case: Case) -> Found:
    (case.folder / "sample.names").write_bytes("circle\ncaf\xe9\ntriangle\ncross\n".encode("cp1252"))
    return "names", f"{case.folder / 'sample.names'}:2"


# more mistakes in cfgs


def in_net(kind: str, old: str, new: str) -> Callable[[Case], Found]:
    return lambda case: net_key(case, kind, old, new)


def new_in_net(line: str) -> Callable[[Case], Found]:
    def plant(case: Case) -> Found:
        key = line.partition("=")[0]
        case.edit("sample.cfg", "momentum=", f"{line}\nmomentum=")
        return f"{key}-range", f"[net] {case.line(line, '[net]')}"

    return plant


def in_head(kind: str, old: str, new: str) -> Callable[[Case], Found]:
    def plant(case: Case) -> Found:
        case.edit("sample.cfg", old, new)
        line = case.line(new.rpartition("\n")[2].partition("=")[0] + "=", "[yolo]")
        return kind, f"layer 10 [yolo] {line}"

    return plant


CURES: dict[str, tuple[Cure, str]] = {
    "box_outside": (corrected, "correct or delete the line"),
    "box_without_size": (corrected, "correct or delete the line"),
    "class_beyond_classes": (corrected, "correct the line"),
    "line_of_words": (corrected, "correct or delete the line"),
    "box_over_the_edge": (corrected, "correct the line"),
    "tiny_box": (corrected, "delete or correct the line"),
    "huge_box": (corrected, "delete or correct the line"),
    "box_twice": (cleaned, "darkpy dataset clean"),
    "more_boxes_than_max": (edited, "max="),
    "label_missing": (corrected, "write the file"),
    "hardly_any_object": (labeled_again, "fewer images without objects"),
    "class_without_an_object": (labeled_again, "images of these classes"),
    "corrupt_jpeg": (unlisted, "remove it from the list"),
    "truncated_jpeg": (corrected, "replace the file"),
    "text_for_an_image": (corrected, "replace the file"),
    "image_missing": (unlisted, "remove it from the list"),
    "same_bytes_in_valid": (cleaned, "darkpy dataset clean"),
    "same_image_in_valid_written_anew": (cleaned, "darkpy dataset clean"),
    "valid_is_train": (other_valid, "valid="),
    "copy_with_other_labels": (unlisted, "remove one of them"),
    "empty_list": (corrected, "one image path on each line"),
    "list_missing": (corrected, "one image path on each line"),
    "fewer_names": (corrected, "write 4 names"),
    "name_twice": (corrected, "a name of its own"),
    "other_classes_in_data": (set_in_data, "classes=4"),
    "unknown_section": (as_meant, "did you mean maxpool"),
    "misspelt_key": (as_meant, "did you mean learning_rate"),
    "anchors_beyond_the_input": (anchors_written, "darkpy anchors DATA --cfg CFG --write"),
    "anchors_missing": (anchors_written, "darkpy anchors DATA --cfg CFG --write"),
    "class_with_two_boxes_in_valid": (labeled_again, "more images of these classes"),
}
"""Cures of the faults of `test_planted_faults`; the first remedy's edits cure all others."""
MISTAKES: dict[str, Mistake] = {
    **{plant.__name__: Mistake(plant, *CURES.get(plant.__name__, (edited, "="))) for plant in planted.FAULTS},
    "list in UTF-32": Mistake(in_list(lambda text: b"\xff\xfe\0\0" + text.encode("utf-32-le")), corrected, "UTF-8"),
    "list in UTF-16 without a mark": Mistake(in_list(lambda text: text.encode("utf-16-le")), corrected, "UTF-8"),
    "list with a NUL byte": Mistake(in_list(lambda text: text.replace("/", "\0", 1).encode()), corrected, "list"),
    "list that is a web page": Mistake(in_list(lambda text: b"<!DOCTYPE html><html>"), corrected, "download"),
    "list that is an archive": Mistake(in_list(lambda text: b"\x1f\x8b\x08\0" + bytes(60)), corrected, "unpack"),
    "list that is a folder": Mistake(list_is_a_folder, other_valid, "list"),
    "names with a blank line": Mistake(names_with_a_blank_line, corrected, "write 4 names"),
    "names in one line": Mistake(names_in_one_line, corrected, "write 4 names, one on each line"),
    "names that are binary": Mistake(names_are_binary, corrected, ""),
    "names in cp1252": Mistake(names_in_cp1252, corrected, "save it as UTF-8"),
    "image of another suffix": Mistake(image_of_another_suffix, named_in_the_list, "write its name in the list"),
    **{
        f"labels: {mistake}": Mistake(in_labels(mistake), repaired, "darkpy dataset repair")
        for mistake in systematic.PLANTS
    },
    "labels: all empty": Mistake(in_every_label(lambda line: ""), labeled_again, "label the objects"),
    "labels: names for numbers": Mistake(in_every_label(lambda line: f"cat{line[1:]}"), labeled_again, "class x y w h"),
    "labels: commas": Mistake(in_every_label(lambda line: line.replace(" ", ",")), labeled_again, "class x y w h"),
    "labels: decimal commas": Mistake(
        in_every_label(lambda line: line.replace(".", ",")), labeled_again, "a point before the decimals"
    ),
    "labels: a score behind": Mistake(in_every_label(lambda line: f"{line} 0.9"), labeled_again, "class x y w h"),
    "labels: polygons": Mistake(in_every_label(lambda line: f"{line} .1 .2 .3 .4"), labeled_again, "class x y w h"),
    "labels: all absent": Mistake(all_labels_absent, labeled_again, "put them there"),
    "label in another encoding": Mistake(label_of_another_encoding, corrected, "replace the file"),
    "label in UTF-16": Mistake(label_in_utf_16, corrected, "save it as UTF-8"),
    "label that is NaN": Mistake(label_line("1 nan .5 .2 .2"), corrected, "correct or delete the line"),
    "label of a class below 0": Mistake(label_line("-1 .5 .5 .2 .2"), corrected, "correct the line"),
    "label of four numbers": Mistake(label_line("1 .5 .5 .2"), corrected, "correct or delete the line"),
    "label with words behind": Mistake(
        label_line("1 .5 .5 .2 .2 truncated"), corrected, "delete what is behind the box"
    ),
    "label with a score behind": Mistake(label_line("1 .5 .5 .2 .2 .9"), corrected, "delete what is behind the box"),
    "labels on one line": Mistake(labels_on_one_line, corrected, "a line of its own"),
    "label in the corner": Mistake(label_line("1 0 0 .2 .2"), corrected, "correct or delete the line"),
    "end below 0": Mistake(in_net("schedule", "max_batches=1500", "max_batches=-3"), edited, "max_batches=8000"),
    "saturation of 0": Mistake(new_in_net("saturation=0"), edited, "saturation=1"),
    "hue in degrees": Mistake(new_in_net("hue=36"), edited, "hue=0"),
    "ignore_thresh in percent": Mistake(
        in_head("ignore_thresh-range", "ignore_thresh=.5", "ignore_thresh=70"), edited, "ignore_thresh=0.5"
    ),
    "jitter below 0": Mistake(in_head("jitter-range", "jitter=.2", "jitter=-.2"), edited, "jitter=0.2"),
}
QUICK = {
    *("label_missing", "more_boxes_than_max", "filters_before_the_head", "burn_in_without_end", "fewer_names"),
    *("image of another suffix", "labels: top-left", "end below 0", "list with a NUL byte"),
}


def test_there_are_as_many_faults_and_mistakes_as_the_readme_claims() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    pattern = r"(\d+) planted training faults .*?(\d+) planted mistakes .*?(\d+) cfgs and (\d+) kinds"
    (claim,) = re.findall(pattern, readme)
    curable = sum(is_curable for _, _, is_curable in PLANTED.values())
    counts = len(IN_TRAINING), len(MISTAKES) + curable, len(CURED_RUNS), len(systematic.PLANTS)
    assert tuple(map(int, claim)) == counts
    assert CURES.keys() <= {plant.__name__ for plant in planted.FAULTS} and MISTAKES.keys() >= QUICK


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MISTAKES]
)
def test_mistake_is_named_once_and_the_first_advice_fixes_it(case: Case, healthy: Path, name: str) -> None:
    mistake = MISTAKES[name]
    kind, place = mistake.plant(case)
    findings = [finding for finding in case.findings() if finding.name == kind]
    assert len(findings) == 1 and place in (findings[0].place, ""), findings
    assert mistake.says in findings[0].hints[0]
    cured = mistake.cure(case, findings[0], healthy) or case
    assert cured.findings() == []


CLEANED = {
    *("box_outside", "box_without_size", "class_beyond_classes", "line_of_words", "box_twice"),
    *("corrupt_jpeg", "truncated_jpeg", "text_for_an_image", "image_missing", "copy_with_other_labels"),
    *("same_bytes_in_valid", "same_image_in_valid_written_anew", "image of another suffix"),
    *("label in another encoding", "label that is NaN", "label of a class below 0", "label of four numbers"),
    *("label in the corner",),
}
"""Mistakes of which `darkpy dataset clean` is a remedy, the first one or another."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "image_missing" else pytest.mark.slow) for name in sorted(CLEANED)]
)
def test_mistake_is_cured_by_dataset_clean_where_doctor_names_it(case: Case, healthy: Path, name: str) -> None:
    kind, _ = MISTAKES[name].plant(case)
    (finding,) = (finding for finding in case.findings() if finding.name == kind)
    cleaned(case, finding, healthy)
    assert case.findings() == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "label_missing" else pytest.mark.slow)
        for name in sorted(MISTAKES.keys() - CLEANED)
    ],
)
def test_dataset_clean_is_named_for_nothing_else(case: Case, name: str) -> None:
    MISTAKES[name].plant(case)
    assert not [finding for finding in case.findings() if any("dataset clean" in hint for hint in finding.hints)]


def test_dataset_clean_is_not_named_where_it_would_refuse(case: Case) -> None:
    for number in range(14):
        case.image(number).write_bytes(b"no image")
    findings = case.findings()
    assert len(findings) == 14 and not [hint for finding in findings for hint in finding.hints if "clean" in hint]
    assert main(["dataset", "clean", str(case.data)]) == 2
