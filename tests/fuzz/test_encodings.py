"""Text files in every encoding, and other things in their place: the right value or one clear error.

The grid is every reader of text times every form of a file.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import darkpy
from darkpy.__main__ import main
from darkpy.build import make_plan
from darkpy.config.classmap import read_class_map
from darkpy.config.tree import read_tree
from darkpy.data.formats.coco import read_coco
from darkpy.data.formats.voc import read_voc
from darkpy.data.lists.labels import read_label_table, read_labels, read_tags
from darkpy.data.lists.paths import expand_paths, read_image_list
from darkpy.data.lists.text_files import read_data, read_names
from darkpy.diagnostics.monitor.run_log import read_log
from darkpy.errors import DarkpyError
from tests.fuzz.harness import Hang
from tests.fuzz.targets import CFG, CLASSIFIER_CFG, DATA, VOC, project

RIGHT: dict[str, Callable[[str], bytes]] = {
    "UTF-8": lambda text: text.encode(),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "marks of joined files": lambda text: "".join(f"\ufeff\ufeff{line}" for line in text.splitlines(True)).encode(),
    "UTF-16 LE with mark": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "UTF-16 BE with mark": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR only": lambda text: text.replace("\n", "\r").encode(),
    "no last line break": lambda text: text.rstrip("\n").encode(),
    "blank lines at the end": lambda text: f"{text}\n\n".encode(),
    "end mark of DOS": lambda text: text.encode() + b"\r\n\x1a" if "\x1a" in text else text.encode(),
}
"""Forms of a text that all mean the same."""
WRONG: dict[str, Callable[[str], bytes]] = {
    "UTF-16 LE": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "UTF-32 LE with mark": lambda text: b"\xff\xfe\0\0" + text.encode("utf-32-le"),
    "UTF-32 BE": lambda text: text.encode("utf-32-be"),
    "UTF-7": lambda text: text.encode("utf-7").replace(b"\n", b"\0"),
    "cp1252": lambda text: f"caf\xe9 {text}".encode("cp1252"),
    "Shift-JIS": lambda text: f"写真 {text}".encode("shift-jis"),
    "NUL inside": lambda text: text.encode()[:5] + b"\0" + text.encode()[5:],
    "NUL at the end": lambda text: text.encode() + b"\0" * 100,
    "binary": lambda text: bytes(range(256)) * 4,
    "HTML": lambda text: b"<!DOCTYPE html><html><body>404</body></html>",
    "gzip": lambda text: gzip.compress(text.encode()),
    "PNG": lambda text: b"\x89PNG\r\n\x1a\n" + bytes(40),
    "empty": lambda text: b"",
    "blank": lambda text: b" \n\t\n",
}
"""Content in whose place a text should be."""


def _write(form: str, path: Path, text: str) -> None:
    """Write a text in a form, or what else stands in its place."""
    if form in PLACES:
        PLACES[form](path)
    else:
        path.write_bytes((RIGHT | WRONG | LIST_FORMS)[form](text))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


PLACES: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "FIFO": _fifo,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "loop of links": _loop,
    "missing": lambda path: None,
}
"""What is not a regular file."""

TREE = "root0 -1\nroot1 -1\ncat 0\ndog 0\n"
READERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "cfg": ("net.cfg", CFG, lambda path: [node.shape for node in make_plan(path).nodes]),
    "data": ("my.data", DATA, lambda path: read_data(path).entries),
    "names": ("my.names", "cat\ndog\n", read_names),
    "list": ("my.txt", "a.png\nb.png\n", read_image_list),
    "list argument": ("my.list", "a.png\nb.png\n", lambda path: expand_paths([path])),
    "labels": ("a.txt", "0 .5 .5 .25 .5\n1 .25 .75 .125 .0625\n", lambda path: read_labels(path, 2).boxes_N5.tolist()),
    "tags": ("a.txt", "0\n1\n", lambda path: read_tags(path, 2)[0]),
    "tree": ("x.tree", TREE, lambda path: read_tree(path).parent),
    "map": ("x.map", "0\n3\n7\n", lambda path: read_class_map(path, 9)),
}
MAY_BE_EMPTY = {"labels", "tags"}
"""An empty file says that the image shows nothing."""
KEEPS_BYTES = {"data": ("cp1252", "Shift-JIS")}
"""Readers of paths, which are bytes in any encoding."""
REFUSED = {"cfg": ("UTF-16 LE with mark", "UTF-16 BE with mark", "CR only", "marks of joined files")}
"""darkpy edits the lines of a cfg in place."""
SECONDS_PER_CASE = 60


@contextlib.contextmanager
def deadline() -> Iterator[None]:
    """End a case that waits for a pipe or a device."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS_PER_CASE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
@pytest.mark.parametrize("reader", READERS)
def test_every_form_of_a_text_has_the_value_of_utf_8(tmp_path: Path, reader: str) -> None:
    name, text, read = READERS[reader]
    path = tmp_path / name
    path.write_text(text)
    expected = read(path)
    for form, encode in RIGHT.items():
        path.unlink()
        path.write_bytes(encode(text))
        if form in REFUSED.get(reader, ()):
            with pytest.raises(DarkpyError, match=r"carriage returns alone|is UTF-16 text|starts with \[net\]"):
                read(path)
        else:
            assert read(path) == expected, form


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
@pytest.mark.parametrize("reader", READERS)
def test_everything_else_is_one_error_that_names_the_file(tmp_path: Path, reader: str) -> None:
    name, text, read = READERS[reader]
    for number, form in enumerate((*WRONG, *PLACES)):
        path = tmp_path / f"{number}{name}"
        _write(form, path, text)
        _check_error(path, form, read, reader)


def _check_error(path: Path, form: str, read: Callable[[Path], object], reader: str) -> None:
    if form in ("empty", "blank") and reader in MAY_BE_EMPTY:
        with deadline():
            assert not read(path)
        return
    with deadline():
        try:
            value = read(path)
            if form in KEEPS_BYTES.get(reader, ()):
                return
        except DarkpyError as error:
            assert path.name in error.message, form
            assert error.message.isprintable() or reader in ("cfg", "tree"), form
            return
    pytest.fail(f"{form}: {value!r}")


def test_a_table_of_labels_tells_of_every_file_that_is_no_text(tmp_path: Path) -> None:
    """One unreadable file of a list is a problem of that file, and the others are read."""
    forms = (*WRONG, *PLACES)
    names = [f"{number}.png" for number in range(len(forms))]
    for number, form in enumerate(forms):
        _write(form, tmp_path / f"{number}.txt", "0 .5 .5 .5 .5\n")
    (tmp_path / "good.txt").write_text("1 .5 .5 .5 .5\n")
    with deadline():
        table = read_label_table([*names, "good.png"], tmp_path)
    assert table.class_N.tolist() == [1] and table.image_N.tolist() == [len(names)]
    silent = {"empty", "blank", "folder", "missing"}
    told = {int(Path(problem.split(":")[0]).stem) for problem in table.problems}
    assert told == {number for number, form in enumerate(forms) if form not in silent}
    assert set(table.missing) == {number for number, form in enumerate(forms) if form in PLACES}


COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "net.cfg", "pets.data", "--workers", "0", "-chart", "out/c.png"),
    "classifier train": ("classifier", "train", "classes.data", "classes.cfg", "--workers", "0"),
    "doctor": ("doctor", "net.cfg", "pets.data"),
    "map": ("detector", "map", "pets.data", "net.cfg", "net.weights"),
    "valid": ("detector", "valid", "pets.data", "net.cfg", "net.weights", "-out", "res"),
    "recall": ("detector", "recall", "pets.data", "net.cfg", "net.weights"),
    "evaluate": ("evaluate", "net.cfg", "pets.data", "net.weights"),
    "classifier valid": ("classifier", "valid", "classes.data", "classes.cfg", "classes.weights"),
    "stats": ("dataset", "stats", "pets.data"),
    "stats of a list": ("dataset", "stats", "train.txt"),
    "split": ("dataset", "split", "train.txt", "out/split", "--force"),
    "to-coco": ("dataset", "to-coco", "train.txt", "out/x.json", "--force"),
    "draw": ("dataset", "draw", "pets.data", "out/sheet.png", "--force"),
    "anchors": ("anchors", "pets.data", "-n", "2"),
    "calc_anchors": ("detector", "calc_anchors", "pets.data", "-num_of_clusters", "2", "-width", "32", "-height", "32"),
    "detect": ("detect", "net.cfg", "net.weights", "train.txt", "--out", "out/drawn"),
    "standard input": ("detector", "test", "pets.data", "net.cfg", "net.weights", "-dont_show"),
}
LIST_FORMS: dict[str, Callable[[str], bytes]] = {
    **{
        form: RIGHT[form]
        for form in ("byte order mark", "UTF-16 LE with mark", "CRLF", "CR only", "no last line break")
    },
    **{form: WRONG[form] for form in ("UTF-16 LE", "cp1252", "NUL inside", "binary", "HTML", "gzip", "empty", "blank")},
    "one line": lambda text: " ".join(text.split()).encode(),
    "commas": lambda text: ",".join(text.split()).encode(),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_a_list_or_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """17 commands with 20 forms of the list of images that they read."""
    monkeypatch.chdir(tmp_path)
    for name, data in project().items():
        Path(name).write_bytes(data)
    Path("classes.cfg").write_text(CLASSIFIER_CFG)
    Path("classes.names").write_text("p0\np1\n")
    Path("classes.data").write_text("classes=2\ntrain=train.txt\nvalid=train.txt\nlabels=classes.names\nbackup=out\n")
    Path("out").mkdir()
    for cfg in ("net", "classes"):
        network = darkpy.load(f"{cfg}.cfg")
        network.save_weights(f"{cfg}.weights")
    text = Path("train.txt").read_text() if "classifier" not in command else "p0.png\np1.png\n"
    for form in (*LIST_FORMS, *PLACES):
        if command == "standard input" and form in PLACES:
            continue
        _remove(Path("train.txt"))
        _write(form, Path("train.txt"), text)
        if command == "standard input":
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("train.txt").read_bytes())))
        with deadline(), warnings.catch_warnings():
            code = main(list(COMMANDS[command]))
        out, err = capsys.readouterr()
        says = f"{command}, {form}: {code} {out[-300:]} {err[-600:]}"
        if form in RIGHT and not (command == "standard input" and "UTF-16" in form):
            assert code in (0, 1), says
        elif command != "standard input":
            assert code in ((1, 2) if command == "doctor" else (2,)), says
            assert "train.txt" in err + out, says
        assert "Traceback" not in err, says
        for written in Path("out").iterdir():
            _remove(written)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def test_lists_of_voc_and_json_of_coco_and_logs_are_no_exception(tmp_path: Path) -> None:
    """Readers whose text stands in a folder, or is not lines."""
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "a.xml").write_text(VOC)
    for number, (form, encode) in enumerate(WRONG.items()):
        (tmp_path / "ImageSets/Main/train.txt").write_bytes(encode("a\n"))
        if form not in ("empty", "cp1252", "Shift-JIS"):  # the latter have two words a line: a list of one class
            with pytest.raises(DarkpyError, match=r"train\.txt"):
                read_voc(tmp_path, needs_images=False)
        path = tmp_path / f"{number}.json"
        path.write_bytes(encode("{}"))
        for read in (read_coco, read_log):
            with pytest.raises(DarkpyError, match=path.name):
                read(path)
