"""`darkpy segmenter ...` and `darkpy isegmenter ...`."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import darkpy
from darkpy.data.lists.mask_files import Mask, encode_runs, format_masks, read_masks
from darkpy.data.lists.text_files import read_data
from darkpy.diagnostics.monitor.run_log import read_log
from darkpy.errors import DarkpyError
from darkpy.evaluation.segment import segment
from darkpy.training.setup import open_setup
from tests.cli.conftest import Run, write_image

CFG = """[net]
width=16
height=16
channels=3
batch=2
max_batches=2
policy=constant
learning_rate=.01

[maxpool]
size=2
stride=2

[convolutional]
filters=3
size=1
activation=linear

[logistic]
"""
ISEG = CFG.replace("filters=3", "filters=5").replace("[logistic]", "[iseg]\nclasses=3\nids=2\n")
TEST = ("segmenter", "test", "pets.data", "net.cfg", "net.weights", "-nogpu")
SAVE = ("-nogpu", "--save-masks", "found")


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two images, the left half red, the right blue, and a network that finds both colors."""
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(CFG)
    Path("iseg.cfg").write_text(ISEG)
    weights = (40, 0, 0, 0, 0, 0, 0, 0, 40)  # filters of red, nothing, blue
    Path("net.weights").write_bytes(struct.pack("<3iQ12f", 0, 2, 0, 0, -20, -20, -20, *weights))
    Path("pets.names").write_text("cat\ndog\nhen\n")
    Path("pets.data").write_text("names=pets.names\ntrain=list.txt\nbackup=backup\n")
    for folder in ("images", "mask"):
        Path(folder).mkdir()
    for name in ("a", "b"):
        pixels_HW3 = np.zeros((32, 64, 3), np.uint8)
        pixels_HW3[:, :32, 0] = pixels_HW3[:, 32:, 2] = 255
        PIL.Image.fromarray(pixels_HW3).save(f"images/{name}.png")
        runs = "0," + ",".join(["32"] * 63)
        Path(f"mask/{name}.txt").write_text(f"0 {runs}\n2 32,{runs[2:]}\n")
    Path("list.txt").write_text("images/a.png\nimages/b.png\n")
    return tmp_path


def test_single_image_gives_darknets_lines_and_drawings(pets: Path, run: Run) -> None:
    code, out, err = run(*TEST, "images/a.png")
    assert (code, err) == (0, "")
    first, second, *masks = out.splitlines()
    assert first == "Predicted: 0.500000" and second.startswith("images/a.png: Predicted in ")  # of the gray border
    assert [line.partition(":")[0] for line in masks] in (["cat", "hen"], ["hen", "cat"])
    assert all(45 <= float(line.split()[1][:-1]) <= 55 for line in masks)
    assert PIL.Image.open("orig.png").size == (16, 16) and PIL.Image.open("pred.png").size == (8, 8)
    colors = np.array(PIL.Image.open("pred.png"))[4, [1, 6]].tolist()
    assert colors == [[255, 0, 255], [0, 255, 85]]
    assert run(*TEST, "images/b.png").code == 0  # darkpy's own drawings are replaced
    write_image(Path("pred.png"), 8, 8)
    code, _, err = run(*TEST, "images/a.png")
    assert code == 2 and "pred.png: already exists\n  hint: darkpy did not make it; --overwrite overwrites it" in err


def test_folder_is_drawn_and_its_masks_are_files_to_train_on(pets: Path, run: Run) -> None:
    code, out, err = run(*TEST, "images", "--out", "drawn", "--save-masks", "found")
    assert (code, err) == (0, "") and out.count("Predicted in") == 2
    assert not Path("pred.png").exists()
    drawing = np.array(PIL.Image.open("drawn/a.png")).astype(int)
    original = np.array(PIL.Image.open("images/a.png")).astype(int)
    assert drawing.shape == original.shape and np.abs(drawing - original).mean() > 10
    found, made = (read_masks(f"{folder}/b.txt", 3) for folder in ("found", "mask"))
    assert found.problems == ()
    for mask, truth in zip(sorted(found.masks, key=lambda mask: mask.class_id), made.masks, strict=True):
        assert mask.class_id == truth.class_id
        assert (mask.render(64, 32) != truth.render(64, 32)).mean() < 0.05
    code, _, err = run(*TEST, "images", "--save-masks", "found")
    assert code == 2 and "a.txt: already exists" in err
    assert run(*TEST, "list.txt", "--save-masks", "found", "--overwrite").code == 0


def test_json_has_runs_and_errors(pets: Path, run: Run) -> None:
    Path("images/c.png").write_bytes(b"no image")
    code, out, err = run(*TEST, "images", "--json")
    assert code == 2 and "error: images/c.png" in err
    first, _, broken = json.loads(out)
    assert first["filename"] == "images/a.png" and (first["width"], first["height"]) == (64, 32)
    assert [(mask["class_id"], mask["name"]) for mask in sorted(first["masks"], key=lambda mask: mask["class_id"])] == [
        (0, "cat"),
        (2, "hen"),
    ]
    for mask in first["masks"]:
        assert sum(mask["runs"]) == 64 * 32 and sum(mask["runs"][1::2]) == mask["pixels"]
    assert set(broken) == {"filename", "error"}


def test_standard_input_names_images(pets: Path, run: Run) -> None:
    code, out, _ = run(*TEST, stdin="images/a.png\nimages/no.png\n")
    assert code == 2 and out.startswith("Enter Image Path: Predicted: 0.5")
    assert out.count("Enter Image Path: ") == 3 and Path("pred.png").exists()


def test_namesakes_on_standard_input_do_not_replace_each_other(pets: Path, run: Run) -> None:
    Path("others").mkdir()
    shutil.copy("images/a.png", "others/a.png")
    words = (*TEST, "--out", "drawn", "--save-masks", "masks", "--json")
    code, out, err = run(*words, "--overwrite", stdin="images/a.png\nothers/a.png\nimages/b.png\n")
    assert code == 2 and len(json.loads(out)) == 3
    for file in ("drawn/a.png", "masks/a.txt"):
        assert f"error: {file}: belongs to images/a.png, that of others/a.png is not written" in err
    assert sorted(path.name for path in Path("masks").iterdir()) == ["a.txt", "b.txt"]
    code, out, err = run(*words, stdin="images/a.png\nimages/b.png\n")
    assert code == 2 and len(json.loads(out)) == 2 and err.count(".txt: already exists") == 2


def test_threshold_decides(pets: Path, run: Run) -> None:
    _, out, _ = run(*TEST, "images/a.png", "-thresh", "1")
    assert len(out.splitlines()) == 2
    _, out, _ = run(*TEST, "images/a.png", "-thresh", "0")
    assert len(out.splitlines()) == 5


@pytest.mark.parametrize(("kind", "cfg"), [("segmenter", "net.cfg"), ("isegmenter", "iseg.cfg")])
def test_training_writes_darknets_files_and_lines_and_is_resumed(pets: Path, run: Run, kind: str, cfg: str) -> None:
    code, out, err = run(
        kind, "train", "pets.data", cfg, "-nogpu", "--darknet-log", "--workers", "0", "-c", "1", "-display"
    )
    assert code == 0, err
    base = Path(cfg).stem
    assert Path(f"backup/preview_{base}/index.html").exists()
    assert out.splitlines()[:4] == [base, "1", "Learning Rate: 0.01, Momentum: 0.9, Decay: 0.0001", "2"]
    lines = [line for line in out.splitlines() if line.endswith(" images")]
    assert [line.split(": ")[0] for line in lines] == ["1, 1.000", "2, 2.000"]
    assert {path.name for path in Path("backup").glob("*.weights")} == {
        f"{base}{end}.weights" for end in ("", "_1", "_2")
    }
    Path(cfg).write_text(Path(cfg).read_text().replace("max_batches=2", "max_batches=3"))
    code, _, err = run(kind, "train", "pets.data", cfg, f"backup/{base}_2.weights", "-nogpu", "--force")
    assert code == 0 and "the run continues" in err
    resumed = Path(f"backup/{base}.weights").read_bytes()
    assert run(kind, "train", "pets.data", cfg, "-nogpu", "--force", "--workers", "0").code == 0
    assert Path(f"backup/{base}.weights").read_bytes() == resumed
    code, out, err = run(kind, "test", "pets.data", cfg, f"backup/{base}.weights", "images/a.png", "-nogpu")
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("segmenter", "train", "pets.data", "iseg.cfg"),
            "iseg.cfg is not a segmenter\n  hint: darkpy isegmenter train",
        ),
        (
            ("isegmenter", "train", "pets.data", "net.cfg"),
            "net.cfg is not an isegmenter\n  hint: darkpy segmenter train",
        ),
        (
            ("segmenter", "train", "pets.data", "class.cfg"),
            "class.cfg is not a segmenter\n  hint: darkpy classifier train",
        ),
        (("detector", "train", "pets.data", "net.cfg"), "net.cfg is not a detector\n  hint: darkpy segmenter train"),
        (
            ("segmenter", "train", "pets.data", "net.cfg", "--draft"),
            "--draft: masks count the pixels of",
        ),
        (
            ("segmenter", "train", "pets.data", "net.cfg", "--best-by", "map"),
            "no metric of segmenters",
        ),
        (("segmenter", "demo", "pets.data", "net.cfg", "net.weights"), "segmenter demo shows the masks of a camera's"),
        (("segmenter", "test", "pets.data", "class.cfg", "net.weights", "images/a.png"), "is not a map of an image"),
        (("segmenter", "train", "pets.data", "odd.cfg"), "a map of 15 x 15 is not a fraction of the input, 16 x 16"),
    ],
)
def test_what_does_not_fit_is_one_line(pets: Path, run: Run, words: tuple[str, ...], complaint: str) -> None:
    Path("class.cfg").write_text(CFG.replace("size=2\nstride=2", "size=16\nstride=16"))
    Path("odd.cfg").write_text(CFG.replace("size=2\nstride=2", "size=2\nstride=1\npadding=0"))
    code, out, err = run(*words, "-nogpu")
    assert (code, out) == (2, "") and complaint in err


def test_wrong_masks_are_found_before_a_training_and_by_doctor(pets: Path, run: Run) -> None:
    Path("mask/a.txt").write_text("0 .5 .5 .2 .2\n3 1,2\n1 0,9999\n")
    code, out, _ = run("doctor", "net.cfg", "pets.data")
    assert code == 1
    assert "mask/a.txt:1: '0 .5 .5 .2 .2' is a box, `class x y w h`, and not a mask" in out
    assert "mask/a.txt:2: class 3 is not from 0 to 2" in out
    assert "mask/a.txt:3: its runs have 9999 pixels, the image of 64 x 32 has 2048" in out
    code, _, err = run("segmenter", "train", "pets.data", "net.cfg", "-nogpu", "--workers", "0")
    assert code == 0 and "1 of 2 mask files have wrong lines, which are left out; the first: mask/a.txt:1:" in err
    Path("mask/a.txt").write_text("0 .5 .5 .2 .2\n")
    Path("mask/b.txt").write_text("cat\n")
    code, _, err = run("segmenter", "train", "pets.data", "net.cfg", "-nogpu", "--force")
    assert code == 2 and "none of 2 mask files has a mask that can be used; the first problem: mask/a.txt:1" in err
    for name in ("a", "b"):
        Path(f"mask/{name}.txt").rename(f"images/{name}.txt")
    code, _, err = run("segmenter", "train", "pets.data", "net.cfg", "-nogpu", "--force")
    assert code == 2 and "images/a.png: has no masks at mask/a.txt, nor has any other image of the list" in err
    assert "hint: there is images/a.txt: if it has masks, move the mask files to mask" in err


def test_labels_make_the_same_network_a_classifier(pets: Path, run: Run) -> None:
    Path("pets.data").write_text("train=list.txt\nlabels=labels.txt\n")
    Path("labels.txt").write_text("".join(f"{number}\n" for number in range(192)))
    plan, data = darkpy.plan("net.cfg"), read_data("pets.data")
    assert open_setup(plan, data, seed=0).kind == "classifier"
    assert open_setup(plan, data, seed=0, kind="segmenter").kind == "segmenter"


@pytest.mark.parametrize("cfg", ["net.cfg", "iseg.cfg"])
def test_samples_are_drawn(pets: Path, run: Run, cfg: str) -> None:
    code, _, err = run("dataset", "preview", cfg, "pets.data", "--out", "seen", "--count", "2")
    assert code == 0, err
    page = Path("seen/index.html").read_text()
    assert "16 x 16: cat, hen" in page and "cut out" in page
    image = np.array(PIL.Image.open("seen/001.png"))
    assert image.shape == (16, 16, 3)


LEARNING_CFG = """[net]
width=32
height=32
channels=3
batch=4
max_batches=300
policy=constant
learning_rate=.002
angle=10
saturation=1.2

[convolutional]
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
filters=16
size=3
pad=1
activation=leaky

[convolutional]
filters=3
size=1
activation=linear

[logistic]
"""


def _shared_over_joined(folder: str, names: tuple[str, ...], class_id: int) -> float:
    """IoU of a class, from the mask files in a folder."""
    shared = joined = 0
    for name in names:
        found_HW, true_HW = np.zeros((2, 32, 64), bool)
        for pixels_HW, file in ((found_HW, f"{folder}/{name}.txt"), (true_HW, f"mask/{name}.txt")):
            for mask in read_masks(file, 3).masks:
                pixels_HW |= (mask.render(64, 32) > 0) & (mask.class_id == class_id)
        shared += int((found_HW & true_HW).sum())
        joined += int((found_HW | true_HW).sum())
    return shared / joined


@pytest.mark.parametrize(("kind", "last"), [("segmenter", "[logistic]"), ("isegmenter", "[iseg]\nclasses=3\nids=0")])
def test_training_evaluates_the_masks_that_test_finds(pets: Path, run: Run, kind: str, last: str) -> None:
    Path("pets.data").write_text("names=pets.names\ntrain=list.txt\nvalid=valid.txt\nbackup=backup\n")
    Path("valid.txt").write_text("images/a.png\nimages/b.png\nimages/c.png\n")
    PIL.Image.open("images/a.png").save("images/c.png")  # without a mask file
    Path("mask/b.txt").write_text("0 0," + ",".join(["16,48"] * 32) + "\n")
    Path("net.cfg").write_text(CFG.replace("[logistic]", last).replace("=.01", "=1e-9"))
    words = (kind, "train", "pets.data", "net.cfg", "net.weights", "-clear", "-nogpu", "--workers", "0")
    code, out, err = run(*words, "--best-by", "iou")
    assert code == 0, err
    assert run(kind, "test", "pets.data", "net.cfg", "backup/net_best.weights", "images", *SAVE).code == 0
    cat, hen = _shared_over_joined("found", ("a", "b"), 0), _shared_over_joined("found", ("a", "b"), 2)
    assert 0.5 < cat < 0.8 and 0.4 < hen < 0.6  # the masks of b are not those of its colors
    cat_text, hen_text, mean = (f"{100 * iou:.2f} %" for iou in (cat, hen, (cat + hen) / 2))
    lines = [f" mean IoU = {mean} ", f" IoU: cat {cat_text}, hen {hen_text}, mean {mean} ", "New best mean IoU!"]
    assert out.splitlines() == lines
    assert "1 of 3 images to validate on cannot be read; the first: mask/c.txt:" in err
    (logged,) = read_log(Path("backup/net.health.jsonl")).maps
    assert logged.name == "mean IoU" and logged.mean == pytest.approx((cat + hen) / 2)
    assert Path("backup/chart_net.png").exists()
    evaluate = ("evaluate", "net.cfg", "pets.data", "backup/net_best.weights", "-nogpu")
    code, out, err = run(*evaluate)
    assert code == 2 and "error: mask/c.txt" in err and out.endswith(f"\n mean IoU = {mean}\n")
    assert "\nclass_id = 1, name = dog, iou = -   (found = 0, true = 0, shared = 0)\nclass_id = 2, name = hen," in out
    record = json.loads(run(*evaluate, "--json").out)
    assert (record["images"], record["unreadable"], record["mean_iou"]) == (3, 1, pytest.approx((cat + hen) / 2))
    assert [counted["iou"] for counted in record["classes"]] == [pytest.approx(cat), None, pytest.approx(hen)]


def test_best_masks_of_a_class_and_of_a_softmax(pets: Path, run: Run) -> None:
    Path("pets.data").write_text("names=pets.names\ntrain=list.txt\nvalid=list.txt\nbackup=backup\n")
    cfg = CFG.replace("[logistic]", "[softmax]\nspatial=1").replace("=.01", "=1e-9")
    Path("net.cfg").write_text(cfg)
    words = ("train", "net.cfg", "pets.data", "net.weights", "-clear", "-nogpu", "--workers", "0")
    code, out, err = run(*words, "--best-by", "class:hen", "--patience", "2")
    assert code == 0, err
    hen = float(out.split("IoU of hen = ")[1].split()[0])
    assert hen > 90 and f"hen {hen:.2f} %, mean " in out and "dog" not in out
    network = darkpy.load("net.cfg", "net.weights").eval()
    (several,), (one,) = (list(segment(network, ["images/a.png"], thresh=thresh)) for thresh in (0.1, None))
    assert one.best_HW is not None and sum(mask.pixels for mask in one.masks) == 32 * 64
    assert sum(mask.pixels for mask in several.masks) > 32 * 64
    for mask in one.masks:
        assert ((mask.render(64, 32) > 0) == (one.best_HW == mask.class_id)).all()


def test_validation_without_a_usable_mask_is_a_warning(pets: Path, run: Run) -> None:
    Path("pets.data").write_text("train=list.txt\nvalid=valid.txt\nbackup=backup\n")
    Path("valid.txt").write_text("images/c.png\n")
    PIL.Image.open("images/a.png").save("images/c.png")
    Path("mask/c.txt").write_text("7 1,2\n")
    code, out, err = run("train", "net.cfg", "pets.data", "-nogpu", "--workers", "0", "--best-by", "iou")
    assert (code, out) == (0, "") and "no mask of the 1 images to validate on can be used: there is no IoU" in err
    code, out, err = run("evaluate", "net.cfg", "pets.data", "net.weights", "-nogpu")
    assert (code, out) == (2, "") and "pets.data: no mask of the valid= list can be used" in err


def test_report_of_masks_is_refused(pets: Path, run: Run) -> None:
    Path("pets.data").write_text("names=pets.names\nvalid=list.txt\n")
    code, out, err = run("evaluate", "net.cfg", "pets.data", "net.weights", "-nogpu", "--report", "judged")
    assert (code, out) == (2, "") and "net.cfg is a segmentation network, for which there is no report" in err
    with pytest.raises(DarkpyError, match="darkpy evaluate CFG DATA WEIGHTS prints their IoU"):
        darkpy.write_evaluation_report(darkpy.load("net.cfg", "net.weights").eval(), "pets.data", "judged")


@pytest.mark.parametrize(
    ("data", "words", "complaint"),
    [
        ("", ("--patience", "2"), "pets.data: has no valid=, on which --patience evaluates"),
        (
            "valid=valid.txt\n",
            ("--best-by", "iou"),
            "bare.png: has no mask file, nor has any other image to validate on",
        ),
        ("valid=list.txt\n", ("--best-by", "map"), "no metric of segmenters\n  hint: one of iou, class:NAME, loss"),
        ("valid=list.txt\n", ("-map",), "not segmenters such as net.cfg\n  hint: --best-by iou is for segmenters"),
    ],
)
def test_evaluation_of_masks_that_is_not_possible(
    pets: Path, run: Run, data: str, words: tuple[str, ...], complaint: str
) -> None:
    Path("pets.data").write_text(f"train=list.txt\nbackup=backup\n{data}")
    Path("valid.txt").write_text("bare.png\n")
    write_image(Path("bare.png"), 16, 16)
    code, out, err = run("train", "net.cfg", "pets.data", "-nogpu", *words)
    assert (code, out) == (2, "") and complaint in err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["segmenter", "isegmenter"])
def test_small_network_learns_disks_and_finds_them_at_their_places(pets: Path, run: Run, kind: str) -> None:
    rng = np.random.default_rng(3)
    truths = []
    for number in range(12):
        w, h = rng.integers(40, 70, 2)
        y_HW, x_HW = np.mgrid[:h, :w]
        pixels_HW3 = rng.integers(0, 60, (h, w, 3))
        is_inside_KHW = np.zeros((3, h, w), bool)
        for class_id in range(3):
            x, y, radius = rng.integers(8, w - 8), rng.integers(8, h - 8), rng.integers(6, 14)
            is_disk_HW = (y_HW - y) ** 2 + (x_HW - x) ** 2 < radius**2
            is_inside_KHW &= ~is_disk_HW
            is_inside_KHW[class_id] |= is_disk_HW
            pixels_HW3[is_disk_HW] = np.eye(3)[class_id] * 200 + rng.integers(0, 40, 3)
        PIL.Image.fromarray(pixels_HW3.astype(np.uint8)).save(f"images/{number}.png")
        masks = [Mask(class_id, encode_runs(is_inside_HW)) for class_id, is_inside_HW in enumerate(is_inside_KHW)]
        Path(f"mask/{number}.txt").write_text(format_masks(masks))
        truths.append(is_inside_KHW)
    Path("list.txt").write_text("".join(f"images/{number}.png\n" for number in range(12)))
    cfg = LEARNING_CFG
    if kind == "isegmenter":
        cfg = cfg.replace("filters=3", "filters=5").replace("[logistic]", "[iseg]\nclasses=3\nids=2\n")
    Path("learn.cfg").write_text(cfg)
    assert run(kind, "train", "pets.data", "learn.cfg", "-nogpu", "--workers", "0").code == 0
    code, _, err = run(
        *(kind, "test", "pets.data", "learn.cfg", "backup/learn.weights", "list.txt", "-nogpu"), "--save-masks", "found"
    )
    assert code == 0, err
    shared = joined = 0
    for number, is_inside_KHW in enumerate(truths):
        is_found_KHW = np.zeros_like(is_inside_KHW)
        for mask in read_masks(f"found/{number}.txt", 3).masks:
            is_found_KHW[mask.class_id] = mask.render(*is_inside_KHW.shape[:0:-1]) > 0
        shared += (is_found_KHW & is_inside_KHW).sum()
        joined += (is_found_KHW | is_inside_KHW).sum()
    assert shared / joined > 0.7
