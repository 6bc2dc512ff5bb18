"""`darkpy train`, `detector train`, `classifier train`: files, messages, exit code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import darkpy
from darkpy.cli.commands.train import ProgressLine
from darkpy.diagnostics.monitor.run_log import read_log
from darkpy.training.reports import UpdateReport
from tests.cli.conftest import Run

# whole trainings, in processes of their own
pytestmark = pytest.mark.slow

DETECTOR = """[net]
batch=4
subdivisions=2
width=32
height=32
channels=3
learning_rate=.001
max_batches=100

[convolutional]
batch_normalize=1
filters=4
size=3
stride=4
pad=1
activation=leaky

[convolutional]
filters=7
size=1
stride=4
activation=linear

[yolo]
mask=0
anchors=8,8
classes=2
num=1
"""
BOTTLENECK = " - performance bottleneck on CPU or Disk HDD/SSD"
CLASSIFIER = """[net]
batch=4
width=16
height=16
channels=3
learning_rate=.01
max_batches=5

[convolutional]
filters=2
size=3
stride=2
pad=1
activation=leaky

[avgpool]

[softmax]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with four images of two classes, and all that both kinds of networks need."""
    monkeypatch.chdir(tmp_path)
    names = []
    for number in range(4):
        kind = ("cat", "dog")[number % 2]
        pixels = np.full((40, 40, 3), 60, np.uint8)
        pixels[8:24, 8:24, number % 2] = 250
        names.append(f"{kind}{number}.png")
        Image.fromarray(pixels).save(names[-1])
        Path(f"{kind}{number}.txt").write_text(f"{number % 2} .4 .4 .4 .4\n")
    Path("list.txt").write_text("\n".join(names))
    Path("labels.txt").write_text("cat\ndog\n")
    Path("names.txt").write_text("cat\ndog\n")
    Path("pets.data").write_text("train=list.txt\nvalid=list.txt\nlabels=labels.txt\nnames=names.txt\nbackup=out\n")
    Path("net.cfg").write_text(DETECTOR)
    Path("class.cfg").write_text(CLASSIFIER)
    return tmp_path


@pytest.fixture
def trained(run: Run) -> Callable[..., str]:
    """Runs a training on the CPU that must succeed. Returns: stderr and then stdout."""

    def train(*words: str) -> str:
        outcome = run(*words, "--device", "cpu", "--workers", "0", "--force")
        assert outcome.code == 0, outcome.err
        return outcome.err + outcome.out

    return train


def files() -> set[str]:
    """What is in the run's folder, beside its log and its chart."""
    return {path.name for path in Path("out").iterdir() if path.suffix not in (".jsonl", ".png")}


def test_detectors_checkpoints_have_their_forks_names(trained: Callable[..., str]) -> None:
    said = trained("detector", "train", "pets.data", "net.cfg", "--dialect", "pjreddie")
    assert files() == {"net.backup", "net_100.weights", "net_final.weights", "net_100.resume"}
    assert "note: out/net_final.weights written after update 100" in said
    assert darkpy.load("net.cfg", "out/net_final.weights").header.seen == 400


def test_alexeyabs_detector(trained: Callable[..., str]) -> None:
    said = trained("train", "net.cfg", "pets.data", "--dialect", "alexeyab", "-dont_show", "-mjpeg_port", "0")
    assert "note: --dashboard: http://127.0.0.1:" in said
    assert files() == {"net_last.weights", "net_final.weights", "net_100.resume"}


def test_classifiers(trained: Callable[..., str]) -> None:
    trained("classifier", "train", "pets.data", "class.cfg")
    assert files() == {f"class_{epoch}.weights" for epoch in range(1, 6)} | {"class.weights", "class_5.resume"}


def test_same_seed_makes_the_same_weights_and_another_one_others(trained: Callable[..., str]) -> None:
    found = []
    for seed in ("1", "1", "2"):
        trained("train", "class.cfg", "pets.data", "--seed", seed)
        found.append(Path("out/class.weights").read_bytes())
    assert found[0] == found[1] != found[2]


def test_run_goes_on_with_its_own_seed(trained: Callable[..., str]) -> None:
    trained("train", "class.cfg", "pets.data", "--seed", "3")
    whole = Path("out/class.weights").read_bytes()
    Path("class.cfg").write_text(CLASSIFIER.replace("max_batches=5", "max_batches=3"))
    trained("train", "class.cfg", "pets.data", "--seed", "3")
    Path("class.cfg").write_text(CLASSIFIER)
    said = trained("train", "class.cfg", "pets.data", "out/class.weights")
    assert "note: out/class_3.resume belongs to these weights" in said
    assert Path("out/class.weights").read_bytes() == whole


def test_clear_begins_the_schedule_anew(run: Run, trained: Callable[..., str]) -> None:
    trained("train", "class.cfg", "pets.data")
    outcome = run("train", "class.cfg", "pets.data", "out/class.weights", "--device", "cpu")
    assert outcome.code == 2
    assert "update 5 of max_batches=5: nothing is left to do\n  hint: -clear" in outcome.err
    trained("train", "class.cfg", "pets.data", "out/class.weights", "-clear")
    assert darkpy.load("class.cfg", "out/class.weights").header.seen == 20


def test_part_of_a_network_may_be_the_start(trained: Callable[..., str]) -> None:
    network = darkpy.load("net.cfg")
    network.save_weights("start.conv.1", cutoff=1)
    trained("train", "net.cfg", "pets.data", "start.conv.1")


def test_darknets_lines_go_to_stdout(run: Run) -> None:
    words = ("train", "net.cfg", "pets.data", "--device", "cpu", "--workers", "0", "--darknet-log")
    lines = run(*words, "--dialect", "pjreddie").out.splitlines()
    assert lines[:3] == ["net", "Learning Rate: 0.001, Momentum: 0.9, Decay: 0.0001", lines[2]]
    assert lines[2].startswith("Loaded: ")
    assert [line.startswith("Region 2 Avg IOU: ") for line in lines[3:5]] == [True, True]
    assert lines[5].startswith("1: ") and lines[5].endswith(" 4 images")
    assert len(lines) == 2 + 4 * 100


def test_layers_of_alexeyabs_speak_on_stderr(run: Run) -> None:
    words = ("train", "net.cfg", "pets.data", "--device", "cpu", "--workers", "0", "--darknet-log")
    outcome = run(*words, "--dialect", "alexeyab")
    assert "Region" not in outcome.out and outcome.err.count("v3 (mse loss") == 200
    assert outcome.err.count("Saving weights to out/net_last.weights\n") == 1
    assert "written after update" not in outcome.err
    assert "\033[H\033[J7/100: loss=" in outcome.out
    assert outcome.out.count(" avg loss, ") == 100


def test_whole_log_has_the_lines_of_alexeyabs_program(run: Run) -> None:
    """The program's own output of such a run had these lines, number by number."""
    words = ("detector", "train", "pets.data", "net.cfg", "-map", "--workers", "0", "--darknet-log")
    out = run(*words, "--dialect", "alexeyab").out
    masked = re.sub(r"\d+", "#", re.sub(r"-?\d+\.\d+", "#.#", out.replace(BOTTLENECK, "")))
    update = (
        "Loaded: #.# seconds\n\n (next mAP calculation at # iterations) \033[H\033[J#/#: loss=#.# hours left=#.#\a\n"
        " #: #.#, #.# avg loss, #.# rate, #.# seconds, # images, #.# hours left\n"
    )
    first = (
        " Prepare additional network for mAP calculation...\n"
        "mini_batch = #, batch = #, time_steps = #, train = # \nnet\n"
        "mini_batch = #, batch = #, time_steps = #, train = # \n"
        "\n Warning: You set batch=# lower than #! It is recommended to set batch=# subdivision=# \n"
        "Weights are saved after: # iterations. Last weights (*_last.weight) are stored every # iterations. \n"
        "Learning Rate: #.#, Momentum: #.#, Decay: #.#\n Detection layer: # - type = # \n"
    )
    assert masked.startswith(first + 100 * update + "\n calculation mAP (mean average precision)...\n")
    assert masked.endswith(
        "\n mean_average_precision (mAP@#.#) = #.# \nNew best mAP!\n"
        "If you want to train from the beginning, then use flag in the end of training command: -clear \n"
    )


def test_map_evaluates_and_keeps_the_best_weights(trained: Callable[..., str]) -> None:
    said = trained("detector", "train", "pets.data", "net.cfg", "-map", "-dont_show")
    assert said.count(" mean_average_precision (mAP@0.50) = ") == 1
    assert "New best mAP!" in said
    assert "net_best.weights" in files()
    assert Path("out/net_best.weights").read_bytes() == Path("out/net_final.weights").read_bytes()


def test_images_to_validate_on_that_cannot_be_read_give_no_mean(run: Run, trained: Callable[..., str]) -> None:
    for name in ("bad0.png", "bad1.png"):
        Path(name).write_bytes(b"no image")
        Path(name).with_suffix(".txt").write_text("0 .5 .5 .2 .2\n")
    Path("valid.txt").write_text("bad0.png\nbad1.png\n")
    Path("pets.data").write_text(Path("pets.data").read_text().replace("valid=list.txt", "valid=valid.txt"))
    said = trained("detector", "train", "pets.data", "net.cfg", "-map")
    assert "2 of 2 images to validate on cannot be read; the first: bad0.png" in said
    assert "New best" not in said and "mean_average_precision" not in said and "net_best.weights" not in files()
    Path("valid.txt").write_text("gone0.png\ngone1.png\n")
    outcome = run("detector", "train", "pets.data", "net.cfg", "-map", "--force", "--device", "cpu")
    assert outcome.code == 2 and "gone0.png: not found, nor is any other image to validate on" in outcome.err


def test_chart_grows_beside_the_weights_and_goes_on_where_the_run_does(trained: Callable[..., str]) -> None:
    trained("detector", "train", "pets.data", "net.cfg", "-map")
    log = read_log(Path("out/net.health.jsonl"))
    assert [one.batch_num for one in log.updates] == list(range(1, 101))
    assert [one.batch_num for one in log.maps] == [100]
    first = Path("out/chart_net.png").read_bytes()
    Path("net.cfg").write_text(DETECTOR.replace("max_batches=100", "max_batches=103"))
    trained("train", "net.cfg", "pets.data", "out/net.backup", "-chart", "mine.png")
    assert Path("out/chart_net.png").read_bytes() == first != Path("mine.png").read_bytes()
    assert len(read_log(log.path).updates) == 103
    log.path.write_text("{}\n")  # as another version of darkpy may have it
    Path("net.cfg").write_text(DETECTOR.replace("max_batches=100", "max_batches=105"))
    assert "the chart begins with update 104" in trained("train", "net.cfg", "pets.data", "out/net_final.weights")


def test_evaluation_changes_nothing_in_the_run(trained: Callable[..., str]) -> None:
    cfg = DETECTOR.replace("[yolo]", "[dropout]\nprobability=.1\n\n[yolo]\nrandom=1")
    Path("net.cfg").write_text(cfg.replace("max_batches=100", "max_batches=105"))
    found = []
    for words in ((), ("-map", "-mAP_epochs", "1")):
        said = trained("train", "net.cfg", "pets.data", "--dialect", "alexeyab", *words)
        found.append(Path("out/net_final.weights").read_bytes())
    assert said.count("mean_average_precision") == 2
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("train", "class.cfg", "pets.data", "-map"), "-map validates detectors, not classifiers such as class.cfg"),
        (
            ("train", "pets.data", "net.cfg"),
            "pets.data is a .data file where the cfg should be\n  hint: the order is CFG DATA for darkpy",
        ),
        (("detector", "train", "net.cfg", "pets.data"), "pets.data is a .data file where the cfg should be"),
        (("train", "net.cfg", "nothing.data"), "nothing.data: cannot be read: No such file or directory"),
        (("train", "net.cfg", "pets.data", "nothing.weights"), "nothing.weights: cannot be read"),
        (
            ("detector", "train", "pets.data", "class.cfg"),
            "class.cfg is not a detector\n  hint: darkpy classifier train",
        ),
        (("classifier", "train", "pets.data", "net.cfg"), "net.cfg is not a classifier\n  hint: darkpy detector train"),
        (("train", "net.cfg", "pets.data", "-cleer"), "has no option -cleer\n  hint: did you mean -clear?"),
        (("train", "net.cfg", "pets.data", "--precision", "fp16"), "'fp16' is not one of 'fp32', 'bf16'"),
    ],
)
def test_mistakes_are_one_message(run: Run, words: tuple[str, ...], text: str) -> None:
    outcome = run(*words)
    assert outcome.code == 2
    assert text in outcome.err
    assert not list(Path().glob("out/*"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "the weights are ruined: they are as large as"),
        (("--no-monitor",), "class.cfg:9: weights holds NaN or infinity; nothing is written"),
    ],
)
def test_weights_that_become_nan_end_the_run_and_are_not_saved(run: Run, words: tuple[str, ...], text: str) -> None:
    Path("class.cfg").write_text(CLASSIFIER.replace("learning_rate=.01", "learning_rate=1e38"))
    outcome = run("train", "class.cfg", "pets.data", "--device", "cpu", "--workers", "0", *words)
    assert outcome.code == 2
    assert text in outcome.err
    assert all(np.isfinite(np.fromfile(path, "<f4", offset=20)).all() for path in Path("out").glob("*.weights"))


def test_bad_files_are_reported_once(trained: Callable[..., str]) -> None:
    Path("cat0.png").write_bytes(b"no image")
    said = trained("train", "net.cfg", "pets.data")
    assert said.count("cat0.png") == 1
    assert Path("bad.list").read_text() == "cat0.png\n"


# the line that changes


def report(batch_num: int, seconds: float, waited: float = 0.0) -> UpdateReport:
    return UpdateReport(
        batch_num=batch_num,
        loss=12.3456,
        average=15.2,
        rate=0.001,
        seen=batch_num * 64,
        images=64,
        seconds=seconds,
        waited=waited,
        size=(416, 416),
    )


def test_progress_tells_loss_average_rate_speed_and_time_left() -> None:
    progress = ProgressLine(6000)
    progress.show(report(120, 2.0))
    assert progress.line(report(120, 2.0)) == (
        "120/6000  loss 12.35  average 15.2  rate 0.001  32 images/s  3:16:00 left"
    )


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            None,
            "120000/500200  loss 12.35  average 15.2  rate 0.001  32 images/s  211:13:20 left  50% waiting for images",
        ),
        (79, "120000/500200  loss 12.35  average 15.2  32 images/s  211:13:20 left"),
        (60, "120000/500200  average 15.2  32 images/s  211:13:20 left"),
        (50, "120000/500200  average 15.2  211:13:20 left"),
        (20, "120000/500200  avera"),
    ],
)
def test_progress_leaves_out_whole_parts_where_the_terminal_is_narrow(width: int | None, line: str) -> None:
    progress = ProgressLine(500_200)
    progress.show(report(120_000, 2.0, 1.0))
    assert progress.line(report(120_000, 2.0, 1.0), width) == line


def test_progress_tells_when_images_are_waited_for() -> None:
    progress = ProgressLine(0)
    progress.show(report(120, 2.0, 1.0))
    assert progress.line(report(120, 2.0)).endswith("rate 0.001  32 images/s  50% waiting for images")


def test_progress_is_printed_now_and_then_if_stderr_is_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLine(100)
    for batch_num in range(1, 101):
        progress.show(report(batch_num, 0.01))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["1/100", "100/100"]
