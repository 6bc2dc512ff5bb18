"""Cleaning of a data set: unusable images, copies and wrong label lines are moved into a folder, and restored."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from darkpy.data.lists.image_list import names_from_common_folder
from darkpy.data.lists.labels import NOT_BY_LINE_PROBLEM
from darkpy.data.lists.paths import MAX_LIST_BYTES, find_label, read_image_list
from darkpy.data.lists.text_files import DIFFICULT_KEYS, DataFile
from darkpy.diagnostics.checks.images import InspectedImage, Inspector, guess_inspector
from darkpy.diagnostics.checks.lists import check_leaks
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.files import is_file, is_true, make_folder, open_regular, read_text, write_atomic
from darkpy.finding import Finding, Remedy

LIST_KEYS = ("train", "valid", "test")
MANIFEST_NAME, FILES_FOLDER = "manifest.json", "files"
MAX_MANIFEST_BYTES = 1 << 28
MAX_SHOWN_LINES = 9
MAX_FAULTY_FRAC = 0.5
"""Fraction of images or label files with a fault from which the fault is of the whole data set."""
CURED_FINDINGS = {
    **dict.fromkeys(("leak", "images-repeated", "box-repeated"), True),
    **dict.fromkeys(("image-missing", "image-unreadable", "copy-labelled-otherwise"), False),
}
"""Findings that cleaning fixes. Values: True if it loses nothing, so that it is the first remedy."""
_LIST_HINT = "a list has one image path on each line"
_MANIFEST_HINT = "name a folder that darkpy dataset clean made"


@dataclass(slots=True)
class _CleanedList:
    """List of images. files: by place in the list; dropped: reasons to leave lines out, by place."""

    path: Path
    files: list[Path]
    images: list[InspectedImage] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MovedFile:
    """File that goes into the folder. reason: for a person. new_content: takes its place; None for nothing."""

    path: Path
    reason: str
    new_content: bytes | None = None


class Cleaner:
    """Finds problems of a `.data` file's files that can be fixed by moving files and lines away.

    Raises: DarkpyError when a list cannot be read.
    """

    def __init__(
        self,
        data: DataFile,
        dialect: Dialect | None = None,
        images: Mapping[str, Sequence[InspectedImage]] | None = None,
    ) -> None:
        """images: of each list to be cleaned, surveyed before; None for all lists."""
        self.data = data
        self.dialect = dialect or Dialect.ALEXEYAB
        self._lists: dict[str, _CleanedList] = {}
        for key in LIST_KEYS if images is None else images:
            file = data.find(key)
            if file is None or file.resolve() in {entry.path.resolve() for entry in self._lists.values()}:
                continue
            known = [] if images is None else list(images[key])
            files = read_image_list(file) if images is None else [Path(image.path) for image in known]
            self._lists[key] = _CleanedList(file, files, known)
        if not self._lists:
            raise DarkpyError(f"{data.path}: names no list of images", hint="train=train.txt names one")

    @property
    def total(self) -> int:
        """Number of images that `survey` inspects."""
        return sum(len(entry.files) for entry in self._lists.values())

    def survey(self) -> Iterator[InspectedImage]:
        """Inspect each image and its labels."""
        inspector = guess_inspector(self.data, self.dialect)
        for entry in self._lists.values():
            for image in inspector.survey(list(map(str, entry.files))):
                entry.images.append(image)
                yield image

    def plan(self) -> list[MovedFile]:
        """Return the files to move, after the survey.

        Raises: DarkpyError when a fault is one of the whole data set, or nothing of a list would remain.
        """
        for entry in self._lists.values():
            self._drop_unusable(entry)
            self._drop_copies(entry)
        self._drop_leaks()
        images = [
            entry.files[index].absolute()
            for entry in self._lists.values()
            for index in range(len(entry.files))
            if index not in entry.dropped
        ]
        kept = {path for image in images for path in self._files_of(image)}
        moved: dict[Path, MovedFile] = {}
        for key, entry in self._lists.items():
            if entry.dropped and len(entry.dropped) == len(entry.files):
                reason = next(iter(entry.dropped.values()))
                raise DarkpyError(f"{entry.path}: no image of {key}= would remain; the first: {reason}")
            for index, reason in entry.dropped.items():
                for path in self._files_of(entry.files[index]):
                    if path.absolute() not in kept and (is_file(path) or is_true(path.is_symlink)):
                        moved.setdefault(path.absolute(), MovedFile(path, reason))
            for file in (entry.path, self.data.find(DIFFICULT_KEYS[key])) if entry.dropped else ():
                if file is not None and file.is_file():
                    reason = f"{len(entry.dropped)} of its images are left out"
                    path = _followed(file)
                    moved[path.absolute()] = MovedFile(path, reason, _without_lines(path, entry.dropped))
        for path, (reason, text) in self._cleaned_labels().items():
            moved.setdefault(path.absolute(), MovedFile(path, reason, text))
        return list(moved.values())

    def _files_of(self, image: Path) -> tuple[Path, ...]:
        """Return an image, and its label file unless its name is not an image's."""
        try:
            return image, find_label(image, self.dialect)
        except DarkpyError:
            return (image,)

    def _drop_unusable(self, entry: _CleanedList) -> None:
        """Drop images that cannot be read, or whose label file is there and cannot."""
        for index, image in enumerate(entry.images):
            reasons = [item.message for item in image.findings if item.name in ("image-missing", "image-unreadable")]
            is_labeled_wrong = image.label is None and any(
                item.name == "label-missing" and is_file(item.location.file or "") for item in image.findings
            )
            if reasons or is_labeled_wrong:
                entry.dropped[index] = reasons[0] if reasons else "its label file cannot be read"
        if len(entry.dropped) > MAX_FAULTY_FRAC * len(entry.files):
            reason = next(iter(entry.dropped.values()))
            counts = f"{len(entry.dropped)} of {len(entry.files)} images cannot be used"
            hint = "correct the list or the paths in it; darkpy doctor CFG DATA names the cause"
            raise DarkpyError(f"{entry.path}: {counts}; the first: {reason}", hint=hint)

    def _drop_copies(self, entry: _CleanedList) -> None:
        """Drop images that an earlier line has, or of which an earlier file has the same bytes."""
        first: dict[bytes, InspectedImage] = {}
        for index, image in enumerate(entry.images):
            if image.digest and (other := first.setdefault(image.digest, image)) is not image:
                same = "is listed twice" if other.path == image.path else f"has the same bytes as {other.path}"
                entry.dropped.setdefault(index, same)

    def _drop_leaks(self) -> None:
        """Drop images of the other lists that are trained on."""
        train = self._lists.get("train")
        for key in ("valid", "test"):
            entry = self._lists.get(key)
            if train is None or entry is None:
                continue
            findings = check_leaks(train.images, entry.images, (str(train.path), str(entry.path)))
            leaks = {item.location.file: item.message for item in findings if item.name == "leak"}
            for index, image in enumerate(entry.images):
                if image.path in leaks:
                    entry.dropped.setdefault(index, leaks[image.path])

    def _cleaned_labels(self) -> dict[Path, tuple[str, bytes]]:
        """Return reason and new text of each label file with lines that training leaves out, or repeated objects.

        Raises: DarkpyError when most label files have such lines.
        """
        cleaned: dict[Path, tuple[str, bytes]] = {}
        labeled = {image.label: image for entry in self._lists.values() for image in entry.images if image.label}
        for label, image in labeled.items():
            if any(item.message == NOT_BY_LINE_PROBLEM for item in image.findings):
                continue  # a box is not a line
            repeated = {item.location.line for item in image.findings if item.name == "box-repeated"}
            kept = set(image.lines) - repeated
            lines = read_text(label, max_bytes=MAX_LIST_BYTES, hint=None).split("\n")
            written = [number for number, line in enumerate(lines, start=1) if line.strip()]
            if wrong := [number for number in written if number not in kept]:
                text = "".join(f"{lines[number - 1]}\n" for number in written if number in kept)
                shown = ", ".join([*map(str, wrong[:MAX_SHOWN_LINES]), *(["..."] if wrong[MAX_SHOWN_LINES:] else [])])
                cleaned[_followed(Path(label))] = (f"lines {shown} are wrong or repeated", text.encode())
        if len(cleaned) > MAX_FAULTY_FRAC * max(len(labeled), 1):
            (path, (reason, _)) = next(iter(cleaned.items()))
            message = f"{len(cleaned)} of {len(labeled)} label files have faults, {path}: {reason}"
            hint = "it is a mistake of all: darkpy doctor CFG DATA names it, and darkpy dataset repair may correct it"
            raise DarkpyError(message, hint=hint)
        return cleaned


def name_cleaning(
    findings: Sequence[Finding], data: DataFile, inspector: Inspector, images: Mapping[str, Sequence[InspectedImage]]
) -> list[Finding]:
    """Name `darkpy dataset clean` as a remedy of the findings that it fixes, unless it would refuse the data set.

    inspector, images: by which, and in which lists, these were found.
    """
    guessed = guess_inspector(data, Dialect.ALEXEYAB).augment_config
    config = inspector.augment_config
    dialect = config.dialect if config is not None else Dialect.ALEXEYAB
    images = {key: inspected for key, inspected in images.items() if inspected and key in data.entries}
    if not images or (guessed is None) != (config is None):
        return list(findings)
    has_known_classes = guessed is not None and config is not None and guessed.classes == config.classes
    kept = {image.label: set(image.lines) for inspected in images.values() for image in inspected if image.label}
    not_by_line = {finding.location.file for finding in findings if finding.message == NOT_BY_LINE_PROBLEM}

    def is_cured(finding: Finding) -> bool:
        file, line = finding.location.file, finding.location.line
        if finding.name == "label-missing":
            return is_file(file)  # but cannot be read
        if finding.name in ("label-line", "box-repeated") and file in not_by_line:
            return False
        if finding.name == "label-line":
            return line not in kept.get(file, ()) and (has_known_classes or not finding.message.startswith("class "))
        return finding.name in CURED_FINDINGS

    if not any(map(is_cured, findings)):
        return list(findings)
    try:
        Cleaner(data, dialect, images).plan()
    except DarkpyError:
        return list(findings)
    options = ("--dialect", dialect.value) if dialect is not Dialect.ALEXEYAB else ()
    remedy = Remedy(command=("darkpy", "dataset", "clean", str(data.path), *options))
    return [
        replace(
            finding,
            remedies=(*finding.remedies, remedy),
            hints=(str(remedy), *finding.hints) if CURED_FINDINGS.get(finding.name) else (*finding.hints, str(remedy)),
        )
        if is_cured(finding)
        else finding
        for finding in findings
    ]


def _followed(path: Path) -> Path:
    """Return the file that a link leads to: the link itself stays where it is."""
    return path.resolve() if path.is_symlink() else path


def _without_lines(path: Path, dropped: Mapping[int, str]) -> bytes:
    """Return the text of a list without some of its images."""
    text = read_text(path, max_bytes=MAX_LIST_BYTES, hint=_LIST_HINT, keep_bytes=True)
    filled = [line for line in text.split("\n") if line.strip()]
    kept = [line for index, line in enumerate(filled) if index not in dropped]
    return "".join(f"{line}\n" for line in kept).encode(errors="surrogateescape")


def removed_folder(data: Path) -> Path:
    """Return a new folder beside a `.data` file, for what is removed from its set."""
    names = (f"{data.stem}-removed{f'-{number}' if number > 1 else ''}" for number in range(1, 1000))
    return next(folder for folder in map(data.with_name, names) if not folder.exists())


def move_files(files: Sequence[MovedFile], folder: Path) -> None:
    """Move files into a new folder, with a manifest, written first, by which `undo_moves` brings them back.

    Raises: DarkpyError when a file cannot be moved; `undo_moves` then brings back those that were.
    """
    make_folder(folder / FILES_FOLDER)
    stored = names_from_common_folder([file.path for file in files])
    entries = [
        {
            "path": str(file.path.absolute()),
            "stored": f"{FILES_FOLDER}/{name}",
            "reason": file.reason,
            "replaced_by": None if file.new_content is None else hashlib.sha256(file.new_content).hexdigest(),
        }
        for file, name in zip(files, stored, strict=True)
    ]
    write_atomic(folder / MANIFEST_NAME, [json.dumps({"files": entries}, indent=1).encode()])
    for file, name in zip(files, stored, strict=True):
        target = folder / FILES_FOLDER / name
        make_folder(target.parent)
        try:
            if file.new_content is None:
                shutil.move(file.path, target)
            else:
                shutil.copy2(file.path, target)
                write_atomic(file.path, [file.new_content], replace_input=True)
        except OSError as error:
            raise DarkpyError(f"{file.path}: cannot be moved to {target}: {error.strerror or error}") from error


def undo_moves(folder: Path) -> int:
    """Bring files back from a folder of `move_files`; the folder is removed if nothing else is in it.

    Returns: the number of files.
    Raises: DarkpyError, before anything is changed, when the folder has no manifest, or files were changed since.
    """
    text = read_text(folder / MANIFEST_NAME, max_bytes=MAX_MANIFEST_BYTES, hint=_MANIFEST_HINT)
    try:
        entries = [
            (Path(entry["path"]), folder / entry["stored"], entry["replaced_by"])
            for entry in json.loads(text)["files"]
            if not Path(entry["stored"]).is_absolute() and ".." not in Path(entry["stored"]).parts
        ]
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise DarkpyError(f"{folder / MANIFEST_NAME}: is damaged", hint=_MANIFEST_HINT) from error
    pending = [entry for entry in entries if entry[1].is_file() or entry[1].is_symlink()]
    conflicts = [f"{path}: {reason}" for path, _, digest in pending if (reason := _change_since(path, digest))]
    if conflicts:
        hint = "move these files away, or bring the others back by hand"
        raise DarkpyError("\n".join(conflicts), hint=hint)
    for path, stored, _ in pending:
        make_folder(path.parent)
        try:
            path.unlink(missing_ok=True)  # the content that `move_files` wrote
            shutil.move(stored, path)
        except OSError as error:
            raise DarkpyError(f"{stored}: cannot be moved to {path}: {error.strerror or error}") from error
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        with suppress(OSError):  # folders with files of others stay
            path.rmdir()
    with suppress(OSError):
        folder.rmdir()
    return len(pending)


def _change_since(path: Path, digest: str | None) -> str:
    """Describe how a file was changed since it was moved away or replaced; empty if it was not."""
    if digest is None:
        return "exists again" if path.exists() or path.is_symlink() else ""
    try:
        with open_regular(path) as stream:
            current = hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return ""
    return "" if current == digest else "was changed since"
