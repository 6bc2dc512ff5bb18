"""Command lines of darknet's users: those of both repositories, and every option of AlexeyAB's `detector`."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import darkpy.serving.dashboard
import darkpy.sources.video
import darkpy.training_run
from darkpy.cli.app import app
from darkpy.cli.darknet_words import ABSENT_COMMANDS, DARKNET_OPTIONS
from darkpy.cli.groups import Group
from tests.cli.conftest import CFG, Run, write_image

LINES = (Path(__file__).parent / "darknet_lines.txt").read_text().splitlines()
CLASSIFIER = """[net]
width=8
height=8
channels=3

[convolutional]
filters=2
size=1
activation=linear

[avgpool]

[softmax]
"""
TEXT_NETWORK = """[net]
inputs=256
batch=2
time_steps=2
max_batches=1

[connected]
output=256
activation=linear

[softmax]
"""
DEEP_NETWORK = CLASSIFIER.split("[avgpool]")[0] + "[dropout]\n\n" * 12
MANY_LAYERS = CFG.split("[maxpool]")[0] + "[convolutional]\nfilters=2\n\n" + "[dropout]\n\n" * 310
WORDS = {
    "detector test": "detector test pets.data net.cfg net.weights a.png",
    "detector train": "detector train pets.data net.cfg net.weights",
    "detector valid": "detector valid pets.data net.cfg net.weights",
    "detector recall": "detector recall pets.data net.cfg net.weights",
    "detector map": "detector map pets.data net.cfg net.weights",
    "detector calc_anchors": "detector calc_anchors pets.data -num_of_clusters 1 -width 32 -height 32",
    "classifier predict": "classifier predict pets.data classes.cfg classes.weights a.png",
    "classifier train": "classifier train pets.data classes.cfg classes.weights",
    "classifier valid": "classifier valid pets.data classes.cfg classes.weights",
    "classifier label": "classifier label pets.data classes.cfg classes.weights",
}
VALUES = {
    "-thresh": ".3",
    "-iou_thresh": ".5",
    "-hier": ".5",
    "-num_of_clusters": "1",
    "-width": "32",
    "-height": "32",
    "-points": "11",
    "-i": "0",
    "-gpus": "0",
    "-chart": "chart.png",
    "-mAP_epochs": "2",
    "-mjpeg_port": "0",
}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Arguments of trainings, which are not run."""
    calls: list[dict[str, object]] = []

    def train(*files: object, **options: object) -> SimpleNamespace:
        calls.append(options)
        return SimpleNamespace(stop_code=0, stop_reason="")

    class FreePort(darkpy.serving.dashboard.TrainingDashboard):
        def __init__(self, *, port: int, **options: Any) -> None:
            calls.append({"port": port})
            super().__init__(**options)

    monkeypatch.setattr(darkpy.training_run, "train", train)
    monkeypatch.setattr(darkpy.serving.dashboard, "TrainingDashboard", FreePort)
    return calls


@pytest.fixture
def pets(task: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`task` on a machine without a GPU, with lists and labels."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("a.txt").write_text("".join(f"0 .5 .5 .{size} .25\n" for size in range(1, 10)))
    Path("list.txt").write_text("a.png\n")
    Path("pets.data").write_text(
        "classes=2\nnames=pets.names\nlabels=pets.names\ntrain=list.txt\nvalid=list.txt\ntest=list.txt\n"
    )
    Path("classes.cfg").write_text(CLASSIFIER)
    darkpy.load("classes.cfg").save_weights("classes.weights")
    return task


def stand_in(word: str, line: str) -> None:
    """Make a small file under the name that a line of the repositories gives."""
    path = Path(word.replace("\\", "/"))
    if path.is_absolute() or not path.suffix or word[0] == "-":
        return
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".cfg":
        cfgs = {"classifier": CLASSIFIER, "rnn": TEXT_NETWORK, "partial": MANY_LAYERS, "nightmare": DEEP_NETWORK}
        path.write_text(cfgs.get(line.split()[0], CFG))
    elif path.suffix in (".weights", ".backup", ".conv") or ".conv." in path.name:
        cfg = next(Path(name.replace("\\", "/")) for name in line.split() if name.endswith(".cfg"))
        stand_in(str(cfg), line)
        darkpy.load(cfg).save_weights(path)
    elif path.suffix == ".data":
        shutil.copy("pets.data", path)
    elif path.suffix in (".jpg", ".png"):
        write_image(path, 20, 20)
    elif path.suffix == ".txt":
        write_image(Path("unlabeled.png"), 20, 20)
        path.write_text("unlabeled.png\n")


def no_video(*_: object, **__: object) -> None:
    raise darkpy.DarkpyError("a video is opened")


@pytest.mark.parametrize("line", LINES)
def test_line_of_the_repositories_runs_or_is_refused_for_a_true_reason(
    pets: Path, run: Run, trained: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(darkpy.sources.video, "VideoFrames", no_video)
    given, _, file = line.partition(" < ")
    for word in [*given.replace("-out result.json", "").split(), *([file] if file else [])]:
        if not (given.startswith("partial") and ".conv." in word):
            stand_in(word, given)
    words = given.split()
    if words[0] == "partial":
        Path(words[3]).unlink(missing_ok=True)
    code, _, err = run(*words, stdin=Path(file).read_text() if file else "")
    command = words[2:] if words[0] == "-i" else words
    if command[:2] == ["detector", "demo"]:
        assert code == 2 and "a video is opened" in err
    elif command[0] in ABSENT_COMMANDS or " ".join(command[:2]) in ABSENT_COMMANDS:
        assert code == 2 and "darkpy does not have it\n  hint: " in err and err.count("\n") == 2
    else:
        assert code == 0, err


@pytest.mark.parametrize(
    ("words", "port"),
    [
        ("train --dashboard net.cfg pets.data", 8090),
        ("detector train pets.data net.cfg -mjpeg_port 8091 -map", 8091),
        ("train net.cfg pets.data --dashboard=0", 0),
        ("train net.cfg pets.data -dashboard", 8090),
        ("detector train -mjpeg_port -dont_show pets.data net.cfg", 8090),
    ],
)
def test_the_port_of_the_dashboard_may_be_left_out(
    pets: Path, run: Run, trained: list[dict[str, object]], words: str, port: int
) -> None:
    code, _, err = run(*words.split())
    assert (code, trained[0]) == (0, {"port": port}) and "note: --dashboard: http://127.0.0.1:" in err
    assert len(trained[1]["callbacks"]) == 3  # type: ignore[arg-type]


def test_a_page_without_a_log_or_on_a_port_in_use_is_an_error_before_the_training(pets: Path, run: Run) -> None:
    code, _, err = run("train", "net.cfg", "pets.data", "--dashboard", "0", "--no-monitor")
    assert code == 2 and "hint: leave out --no-monitor" in err
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, _, err = run("train", "net.cfg", "pets.data", "--dashboard", port)
    assert code == 2 and f"--dashboard {port}: another program has this port" in err


def option_words(option: str, *, is_valued: bool) -> list[str]:
    value = "found" if option == "-out" else VALUES.get(option, "7")
    return [option, value] if is_valued else [option]


@pytest.mark.slow
@pytest.mark.parametrize("words", WORDS)
def test_every_option_that_alexeyabs_program_parses_is_accepted_by_each_word(
    pets: Path, run: Run, trained: list[dict[str, object]], words: str
) -> None:
    for option, is_valued in DARKNET_OPTIONS[words.split()[0]].items():
        line = [*WORDS[words].split(), *option_words(option, is_valued=is_valued), "--overwrite"]
        code, _, err = run(*line[: None if words == "detector test" else -1])
        assert code == 0, (option, err)
        assert err.count("no effect") <= 1 and "error" not in err


@pytest.mark.parametrize("words", WORDS)
def test_all_options_that_alexeyabs_program_parses_are_accepted_together(
    pets: Path, run: Run, trained: list[dict[str, object]], words: str
) -> None:
    known = DARKNET_OPTIONS[words.split()[0]]
    options = {name: is_valued for name, is_valued in known.items() if name not in ("-i", "-nogpu")}
    given = [part for name, is_valued in options.items() for part in option_words(name, is_valued=is_valued)]
    code, _, err = run(*WORDS[words].split(), *given, *(["--overwrite"] if words == "detector test" else []))
    assert code == 0, err
    assert err.count("no effect") == 1 and "error" not in err


def test_options_without_effect_are_one_note(pets: Path, run: Run) -> None:
    _, _, err = run(*WORDS["detector recall"].split(), "-points", "11", "-dont_show", "-ext_output")
    assert err == "note: -points, -ext_output have no effect in darkpy detector recall\n"


def test_published_converters_find_each_result_after_the_prompt(pets: Path, run: Run) -> None:
    Path("a.txt").unlink()
    _, out, _ = run(*WORDS["detector test"].split()[:-1], "-dont_show", "-ext_output", stdin="a.png\na.png\n")
    start, *results, end = out.split("Enter Image Path: ")
    assert start == "" and end.strip() == "" and len(results) == 2
    assert all(result.startswith("a.png: Predicted in ") and "cat: 95%" in result for result in results)


def test_misspelled_option_is_an_error_in_every_word(pets: Path, run: Run) -> None:
    for line in WORDS.values():
        code, _, err = run(*line.split(), "-dont_shwo")
        assert code == 2 and "did you mean -dont_show?" in err


def test_number_after_a_flag_is_dropped_unless_it_is_a_file(
    pets: Path, run: Run, trained: list[dict[str, object]]
) -> None:
    code, _, err = run("detector", "train", "pets.data", "net.cfg", "-clear", "1", "-map", "0.1")
    assert (code, trained[0]["clear"], bool(trained[0]["map_epochs"])) == (0, True, True)
    assert err.splitlines() == [
        "note: -clear takes no value: the 1 after it is ignored",
        "note: -map takes no value: the 0.1 after it is ignored",
    ]
    shutil.copy("a.png", "1")
    code, out, _ = run("detector", "test", "pets.data", "net.cfg", "net.weights", "-ext_output", "1")
    assert code == 0 and out.startswith("1: Predicted")


def test_words_after_the_last_argument_are_ignored_with_a_warning(pets: Path, run: Run) -> None:
    code, out, err = run(*WORDS["detector test"].split(), "b.png")
    assert code == 0 and "a.png: Predicted" in out
    assert err == "warning: 'b.png' is ignored: darkpy detector test takes 4 words before it\n"


def test_carriage_return_at_the_end_of_any_argument_is_removed(pets: Path, run: Run) -> None:
    code, out, _ = run(*(f"{word}\r" for word in WORDS["detector test"].split()), "-thresh\r", ".5\r", "\r\n")
    assert code == 0 and "a.png: Predicted" in out


def test_gpu_by_number_is_the_cpu_on_a_machine_without_one(
    pets: Path, run: Run, trained: list[dict[str, object]]
) -> None:
    code, _, err = run(*WORDS["detector test"].split(), "-i", "0")
    assert (code, err) == (0, "note: -i 0: torch finds no GPU here; the CPU is used\n")
    code, _, err = run(*WORDS["detector train"].split(), "-gpus", "0,1")
    assert (code, err) == (0, "note: -gpus 0,1: torch finds no GPU here; the CPU is used\n")
    assert trained[0]["device"] is None


def test_detect_draws_what_out_names_as_pjreddies_program_does(pets: Path, run: Run) -> None:
    assert run("detect", "net.cfg", "net.weights", "a.png", "-out", "found").code == 0
    assert Path("found.jpg").is_file() and not Path("predictions.jpg").exists()
    shutil.copy("a.png", "b.png")
    assert run("detect", "net.cfg", "net.weights", "a.png", "b.png", "-out", "folder").code == 0
    assert Path("folder/a.png").is_file()
    assert run("detect", "net.cfg", "net.weights", "a.png", "--out", "other").code == 0
    assert Path("other/a.png").is_file()


@pytest.mark.parametrize("words", ABSENT_COMMANDS)
def test_command_that_darkpy_lacks_is_answered_by_itself(run: Run, words: str) -> None:
    code, out, err = run(*words.split(), "-file", "x", "net.cfg")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {words} ") and len(err.splitlines()) == 2


def test_no_command_that_exists_is_said_to_be_absent() -> None:
    def paths(group: Group, start: str = "") -> list[str]:
        below = [item for name, sub in group.subcommands.items() if isinstance(sub, Group) for item in paths(sub, name)]
        return [f"{start} {name}".strip() for name in group.subcommands] + below

    assert not ABSENT_COMMANDS.keys() & set(paths(app))


DARKNET_WORDS = {
    "cifar": "train extract distill test multi csv csvtrain eval",
    "classifier": "train predict try demo gun threat test fout csv label valid valid10 validcrop validfull validmulti",
    "coco": "train test valid recall demo",
    "detector": "train test valid valid2 recall demo map calc_anchors draw calcanchors",
    "isegmenter": "train test demo",
    "regressor": "train test demo",
    "rnn": "train valid generate vec validtactic generatetactic",
    "segmenter": "train test demo",
    "tag": "train test",
    "yolo": "train test valid recall demo",
    **dict.fromkeys(("3d", "art", "attention", "average", "captcha", "cfglayers", "classify", "compare"), ""),
    **dict.fromkeys(("denormalize", "detect", "dice", "go", "help", "imtest", "lsd", "mkimg", "nightmare"), ""),
    **dict.fromkeys(("normalize", "oneoff", "oneoff2", "ops", "partial", "print", "rescale", "reset", "rgbgr"), ""),
    **dict.fromkeys(("speed", "statistics", "super", "swag", "test", "version", "vid", "visualize", "voxel"), ""),
    "writing": "",
}
"""Commands in main() of pjreddie's, AlexeyAB's and hank-ai's programs, and in their run_ functions."""


def test_each_command_of_every_darknet_is_here_or_answered_and_in_the_table_of_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/coming-from-darknet.md").read_text()
    rows = [line.split(" | ") for line in page.partition("## Which darknet?")[0].splitlines() if line.startswith("| ")]
    assert all(len(row) == 3 and row[1].strip() for row in rows)
    documented = {word for row in rows for text in row[0].split("`")[1::2] for word in text.split()}
    for word, subcommands in DARKNET_WORDS.items():
        command = app.subcommands.get(word)
        assert command is not None or word in ABSENT_COMMANDS, word
        assert word in documented
        known = command.subcommands if isinstance(command, Group) else {}
        for subcommand in subcommands.split() if known else ():
            assert subcommand in known or f"{word} {subcommand}" in ABSENT_COMMANDS, subcommand
            assert subcommand in documented, subcommand
