"""The program as a whole: help, exit codes, what goes to which stream."""

from __future__ import annotations

import errno
import io
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import darkpy
import darkpy.cli
from darkpy.__main__ import main
from darkpy.cli.app import app
from darkpy.cli.groups import Group
from tests.cli.conftest import CFG, Run


def darkpy_process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "darkpy", *words]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_no_command_module_imports_torch() -> None:
    modules = [module.name for module in pkgutil.walk_packages(darkpy.cli.__path__, "darkpy.cli.")]
    script = f"import sys, importlib; list(map(importlib.import_module, {modules})); sys.exit('torch' in sys.modules)"
    assert len(modules) > 15
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_help_and_completion_import_no_command() -> None:
    script = "import sys; from darkpy.__main__ import main; main(sys.argv[1:]); print('commands' in str(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_every_listed_command_exists_under_its_name() -> None:
    def check(group: Group) -> None:
        for name, listed in group.subcommands.items():
            if isinstance(listed, Group):
                check(listed)
                continue
            command = listed.load()
            assert command.name == name and command.help

    check(app)


def test_module_is_the_same_program() -> None:
    told = darkpy_process("--version")
    assert (told.returncode, told.stdout) == (0, f"darkpy {darkpy.__version__}\n")


def test_help_names_every_command_and_the_way_to_completion(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(word in out for word in ("detect ", "detector ", "show ", "_DARKPY_COMPLETE=bash_source"))


@pytest.mark.parametrize("words", [("detect",), ("detector", "test"), ("show",)])
def test_help_of_a_command_teaches_with_examples(run: Run, words: tuple[str, ...]) -> None:
    for option in ("-h", "--help"):
        code, out, _ = run(*words, option)
        assert code == 0
        assert f"  darkpy {' '.join(words)} " in out.partition("\n")[2]


def test_no_command_is_a_mistake_answered_with_help(run: Run) -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: darkpy")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("detct net.cfg", "did you mean detect"),
        ("-x", "darkpy has no option -x"),
        ("detector tset", "did you mean test?"),
        ("detect", "missing argument 'CFG'"),
        ("detect net.cfg net.weights a.png -tresh .5", "did you mean -thresh?"),
        ("detect net.cfg net.weights a.png -thresh", "'-thresh' requires an argument"),
        ("detect net.cfg net.weights a.png -thresh nan", "nan is not a number from 0 to 1"),
        ("detect net.cfg net.weights a.png -thresh 25", "25 is not a number from 0 to 1"),
        ("detect net.cfg net.weights a.png --dialect yolo", "'yolo' is not one of 'pjreddie', 'alexeyab'"),
        ("detect net.cfg net.weights a.png --batch-size 0", "0 is not in the range"),
        ("detect net.cfg net.weights a.png --device tpux", "device tpux: no such device"),
        ("detect net.cfg net.weights a.png --device gpu", "device gpu: torch finds no GPU here"),
        (
            "detect net.cfg net.weights a.png --device meta",
            "device meta: the torch installed here computes nothing",
        ),
        ("detect net.cfg net.weights a.png --names pets.names --data pets.data", "give one"),
        ("detect net.cfg net.weights a.png --names net.weights", "net.weights: is a binary file"),
        ("detect net.cfg net.weights a.png --data net.cfg", "'[net]' makes it a cfg, not a .data file"),
        ("detect net.weights net.cfg a.png", "net.weights: is a binary file, not a cfg"),
        ("detect net.cfg a.png", "a.png is a PNG image"),
        ("detect net.cfg net.cfg a.png", "net.cfg is a text file"),
        ("detect net.cfg no.weights a.png", "no.weights"),
        ("detect net.cfg net.weights no.png", "no.png: no such file"),
        ("detect net.cfg net.weights no.txt", "no.txt: cannot be read"),
        ("detect net.cfg net.weights a.png --out found.json", "must be a folder"),
        ("detector test no.data net.cfg net.weights", "no.data: cannot be read"),
        ("detector demo pets.data net.cfg net.weights -c 97", "camera 97: cannot be opened"),
        ("detector demo pets.data net.cfg net.weights no.mp4", "no.mp4: cannot be opened"),
        ("detector demo pets.data net.cfg net.weights film.mp4 -json_port 80700", "80700 is not in the range"),
        ("detect net.cfg net.weights a.png film.mp4", "film.mp4: is a video among other images"),
        ("show net.cfg net.weights", "unexpected extra argument (net.weights)"),
        ("detect net.cfg net.weights a.png -c 0", "-c is for cameras and video"),
        ("detect net.cfg net.weights a.png -mjpeg_port 80", "-mjpeg_port sends the frames of a video"),
        ("detector map pets.data net.cfg net.weights --jsno", "did you mean --json?"),
        ("detector train pets.data net.cfg -mapp", "did you mean -map?"),
        ("evaluate net.cfg pets.data net.weights -mAP", "darkpy evaluate --help lists them"),
        ("show no.cfg", "no.cfg: cannot be read"),
        ("show net.cfg --jsn", "did you mean --json?"),
    ],
)
def test_mistake_is_one_message_on_stderr_and_exit_code_2(task: Path, run: Run, line: str, told: str) -> None:
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("error: ") == 1 and "Traceback" not in err


def test_empty_name_is_not_the_working_directory(task: Path, run: Run) -> None:
    code, _, err = run("detect", "net.cfg", "", "a.png")
    assert code == 2
    assert "the file name is empty" in err


def test_faults_of_a_cfg_are_reported_one_by_one(task: Path, run: Run) -> None:
    Path("net.cfg").write_text(CFG.replace("filters=7", "filters=8").replace("stride=32", "stride=zwei"))
    code, _, err = run("show", "net.cfg")
    assert code == 2
    assert err.count("error: net.cfg:") == len([line for line in err.splitlines() if line.startswith("error: ")])
    assert "net.cfg:8: [maxpool]" in err


def test_warnings_among_the_faults_of_a_cfg_are_reported_as_warnings(task: Path, run: Run) -> None:
    Path("net.cfg").write_text(CFG.replace("filters=7", "filters=8\nfitlers=7"))
    _, _, err = run("show", "net.cfg")
    assert [line.partition(":")[0] for line in err.splitlines() if not line.startswith(" ")] == ["error", "warning"]


def test_hundreds_of_faults_of_one_kind_are_one_line(task: Path, run: Run) -> None:
    Path("net.cfg").write_text(CFG + "[nothing]\n" * 300)
    code, _, err = run("show", "net.cfg")
    assert code == 2
    assert err.count("error: ") == 1 and err.endswith("layer 3 is not a darknet section (299 more like it)\n")


def test_warning_is_a_line_on_stderr_and_no_obstacle(task: Path, run: Run) -> None:
    Path("net.cfg").write_text(CFG.replace("filters=7", "filters=7\nfitlers=7"))
    code, out, err = run("show", "net.cfg")
    assert code == 0 and "convolutional" in out
    assert err.startswith("warning: net.cfg:") and "'fitlers'" in err and err.count("warning: ") == 1


@pytest.mark.parametrize("words", [("show", "net.cfg"), ("detect", "net.cfg", "net.weights", "a.png")])
def test_warning_of_a_cfg_is_an_error_on_demand(task: Path, run: Run, words: tuple[str, ...]) -> None:
    Path("net.cfg").write_text(CFG.replace("filters=7", "filters=7\nfitlers=7"))
    code, out, err = run(*words, "--strict")
    assert (code, out) == (2, "")
    assert err.startswith("error: net.cfg:") and "'fitlers'" in err and err.count("error: ") == 1


def test_interrupt_is_quiet(task: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(darkpy, "plan", interrupted)
    code, out, err = run("show", "net.cfg")
    assert (code, out, err.strip()) == (130, "", "")


def test_closed_pipe_is_quiet(task: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "darkpy", "show", "net.cfg"]
    shown = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert shown.stderr == ""


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_behind_standard_output_is_one_line(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["show", "net.cfg"]) == 2
    assert capsys.readouterr().err == "error: standard output: No space left on device\n"
    sys.stdout.write("the program's end may say something once more")


def test_closed_standard_input_names_no_image(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["detect", "net.cfg", "net.weights", "--names", "pets.names", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("error: no image given, and standard input is closed\n")


def test_fault_of_darkpy_itself_is_not_hidden(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(darkpy, "plan", broken)
    with pytest.raises(ZeroDivisionError):
        main(["show", "net.cfg"])


def test_other_peoples_warnings_stay_theirs(task: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def warning(*_: object, **__: object) -> None:
        warnings.warn("torch says", UserWarning, stacklevel=1)
        raise darkpy.DarkpyError("done")

    monkeypatch.setattr(darkpy, "plan", warning)
    with pytest.warns(UserWarning, match="torch says"):
        _, _, err = run("show", "net.cfg")
    assert err == "error: done\n"


def completions(*words: str) -> list[str]:
    environment = {
        "_DARKPY_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    return darkpy_process(**environment).stdout.split()


def test_shell_completes_commands_options_and_values() -> None:
    assert completions("darkpy", "detec") == ["plain,detect", "plain,detector"]
    assert completions("darkpy", "detector", "test", "-thr") == ["plain,-thresh"]
    assert completions("darkpy", "detect", "--dialect", "al") == ["plain,alexeyab"]


def test_name_of_no_known_encoding_is_no_obstacle(task: Path) -> None:
    name = b"\xff.png"
    Path("a.png").rename(os.fsdecode(name))
    command = [sys.executable, "-m", "darkpy", "detect", "net.cfg", "net.weights", "--names", "pets.names", "--device"]
    for given, form in ((name, []), (b"", [b"--json"])):
        words = [*map(os.fsencode, command), b"cpu", *form, *([given] if given else [])]
        done = subprocess.run(words, input=name + b"\n", capture_output=True, check=False)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
        assert json.loads(done.stdout)[0]["objects"] if form else b"cat: 95%" in done.stdout
