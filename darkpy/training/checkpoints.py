"""Checkpoints under darknet's names at darknet's intervals, the newest with its resume file.

A resume file `BASE_N.resume` is written before the weight files it belongs to, and the previous one is removed only
after them: whenever the process dies, the newest weights have theirs.

With both, a run continues as if it had never been interrupted. A resume file is an .npz of arrays (the optimizer's,
deferred gradients, averaged weights, states of random number generators) and `about`, a line of JSON: `weights`, the
sha256 of the file it belongs to; `seen`; `skipped`, the images of refused minibatches; `gathered`, those whose
gradients wait for the next update; `average`, of the losses; `seed`; `best`, the largest mAP; `best_by`, the metric of
the best weights with its best value, the update of that, and the evaluations since; `filter`, the numbers of the
DeltaFilter; `watcher`, the state of the trainer's monitor; `fingerprint`, the settings of the training.
The position in the data is not stored: it follows from the seed, from `seen` and from `skipped`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
from torch import Tensor

from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import open_regular, remove_temporaries, write_atomic
from darkpy.layers.loss import DeltaFilter
from darkpy.training.best_weights import BestValue
from darkpy.training.reports import UpdateReport
from darkpy.training.setup import Intervals
from darkpy.training.trainer import Trainer

RESUME_FORMAT = 1
NO_MAP = -1.0
"""Best mean average precision before the first validation."""
_OPTIMIZER_KEYS: Mapping[type[torch.optim.Optimizer], frozenset[str]] = {
    torch.optim.SGD: frozenset({"momentum_buffer"}),
    torch.optim.Adam: frozenset({"step", "exp_avg", "exp_avg_sq"}),
}
ARTIFACTS_FOLDER = "evidence"
"""Folder for refused minibatches, in that of the checkpoints."""
_CHUNK_BYTES = 1 << 20
MAX_COUNT = (1 << 63) - 1
"""Largest number of images, and largest seed, in a resume file: torch's generators take no larger ones."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A resume file whose arrays are still unread.

    weights: sha256 of the weight file that it belongs to. best: largest mean average precision so far.
    best_by: metric of the best weights and its best value; None in files of old versions and without evaluations.
    monitor: state of the trainer's monitor. fingerprint: settings of the training; empty in files of old versions.
    """

    path: Path
    weights: str
    seen: int
    average: float
    seed: int
    best: float
    filter: DeltaFilter
    best_by: BestValue | None = None
    skipped_images: int = 0
    accumulated_images: int = 0
    monitor: Mapping[str, Sequence[float]] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)

    def restore(self, trainer: Trainer) -> None:
        """Bring a trainer, whose network holds the weights, to the state in which this was written.

        Raises: DarkpyError when it belongs to another network or optimizer; the trainer is then unchanged.
        """
        if trainer.seen != self.seen:
            raise DarkpyError(f"{self.path}: was written after {self.seen} images, the network has seen {trainer.seen}")
        tensors: dict[str, Tensor] = _read(
            self.path, lambda file: {name: torch.from_numpy(file[name]) for name in file.files if name != "about"}
        )
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                hint = "move the file away to start with a new optimizer"
                raise DarkpyError(f"{self.path}: {name} holds NaN or infinity", hint=hint)
        slots = _TensorSlots(trainer)
        if not slots.accepts(tensors):
            raise DarkpyError(
                f"{self.path}: does not fit this network and its optimizer",
                hint="has the cfg changed? move the file away to start with a new optimizer",
            )
        try:
            torch.set_rng_state(tensors.pop("random/torch"))
            trainer.generator.set_state(tensors.pop("random/trainer"))
        except (KeyError, RuntimeError) as error:
            raise DarkpyError(f"{self.path}: its random numbers cannot be used") from error
        for path, tensor in tensors.items():
            slots.put(path, tensor)
        trainer.delta_filter = replace(self.filter)
        trainer.skipped_images, trainer.accumulated_images = self.skipped_images, self.accumulated_images
        trainer.seed, trainer.average_loss = self.seed, self.average
        trainer.monitor.load_state(self.monitor)


def open_resume(path: Path) -> Resume:
    """Raises: DarkpyError when the file is not a resume file, or of another version of darkpy."""
    about = _read(path, lambda file: json.loads(str(file["about"])))
    try:
        if about["format"] != RESUME_FORMAT:
            raise DarkpyError(f"{path}: was written by another version of darkpy")
        average = math.nan if about["average"] is None else float(about["average"])
        figures = DeltaFilter(**{name: _finite(figure) for name, figure in about["filter"].items()})
        return Resume(
            path=path,
            weights=str(about["weights"]),
            seen=_count(about["seen"]),
            average=average,
            seed=_count(about["seed"]),
            best=_finite(about["best"]),
            filter=figures,
            best_by=_best_value(about.get("best_by")),
            skipped_images=_count(about.get("skipped", 0)),
            accumulated_images=_count(about.get("gathered", 0)),
            monitor={name: [float(number) for number in numbers] for name, numbers in about.get("watcher", {}).items()},
            fingerprint={str(name): str(text) for name, text in about.get("fingerprint", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DarkpyError(f"{path}: is not a resume file") from error


def _best_value(about: Any) -> BestValue | None:
    """Read the best value of a resume file. Raises: TypeError, ValueError, KeyError when it is malformed."""
    if about is None:
        return None
    return BestValue(
        metric=str(about["metric"]),
        value=_finite(about["value"]),
        batch_num=_count(about["batch_num"]),
        stale=_count(about["stale"]),
    )


def _count(value: Any) -> int:
    """Check an integer of a resume file. Raises: TypeError, ValueError when it is none from 0 to MAX_COUNT."""
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer")
    if not 0 <= value <= MAX_COUNT:
        raise ValueError("an integer beyond 64 bits")
    return value


def _finite(value: Any) -> float:
    """Check a number of a resume file. Raises: TypeError, ValueError, OverflowError when it is none, or non-finite."""
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value!r} is non-finite")
    return number


def write_resume(
    path: Path,
    trainer: Trainer,
    *,
    weights: str,
    best: float = NO_MAP,
    best_by: BestValue | None = None,
    fingerprint: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the resume file of a weight file with this sha256; the file appears whole or not at all.

    Raises: DarkpyError when an array holds NaN or infinity.
    """
    arrays = {name: tensor.detach().to("cpu").contiguous().numpy() for name, tensor in _tensors(trainer)}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DarkpyError(f"{path}: {name} holds NaN or infinity; nothing is written")
    about = {
        "format": RESUME_FORMAT,
        "weights": weights,
        "seen": trainer.seen,
        "skipped": trainer.skipped_images,
        "gathered": trainer.accumulated_images,
        "average": trainer.average_loss if math.isfinite(trainer.average_loss) else None,
        "seed": trainer.seed,
        "best": best,
        "best_by": None if best_by is None or not math.isfinite(best_by.value) else asdict(best_by),
        "filter": asdict(trainer.delta_filter),
        "watcher": {name: list(numbers) for name, numbers in trainer.monitor.state().items()},
        "fingerprint": dict(fingerprint),
    }
    members: dict[str, Any] = {"about": np.array(json.dumps(about)), **arrays}
    stream = io.BytesIO()
    np.savez(stream, **members)
    write_atomic(path, [stream.getvalue()], replace_input=True)


def digest(chunks: Iterable[bytes]) -> str:
    """Return the sha256 of a file's bytes."""
    sha = hashlib.sha256()
    for chunk in chunks:
        sha.update(chunk)
    return sha.hexdigest()


def digest_file(path: Path) -> str:
    """Raises: DarkpyError when the file cannot be read."""
    try:
        with open_regular(path) as stream:
            return digest(iter(lambda: stream.read(_CHUNK_BYTES), b""))
    except OSError as error:
        raise DarkpyError(f"{path}: cannot be read: {error.strerror or error}") from error


def _tensors(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    params = dict(trainer.network.named_parameters())
    for name, param in params.items():
        for key, value in trainer.optimizer.torch.state.get(param, {}).items():
            yield f"optimizer/{name}/{key}", value
        if param.grad is not None:
            yield f"gradient/{name}", param.grad
    for name, average in trainer.ema.arrays.items() if trainer.ema else ():
        yield f"average/{name}", average
    yield "random/torch", torch.get_rng_state()
    yield "random/trainer", trainer.generator.get_state()
    if trainer.device.type == "cuda":
        yield "random/cuda", torch.cuda.get_rng_state(trainer.device)


class _TensorSlots:
    """Places of a file's arrays in a trainer."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.params = dict(trainer.network.named_parameters())
        self.keys = _OPTIMIZER_KEYS[type(trainer.optimizer.torch)]

    def accepts(self, tensors: Mapping[str, Tensor]) -> bool:
        keys: dict[str, set[str]] = {}
        for path in tensors:
            kind, name, key = _parts(path)
            if kind == "optimizer":
                keys.setdefault(name, set()).add(key)
        is_complete = all(param_keys == self.keys for param_keys in keys.values())
        return is_complete and all(self._fits(*_parts(path), tensor) for path, tensor in tensors.items())

    def _fits(self, kind: str, name: str, key: str, tensor: Tensor) -> bool:
        if kind == "random":
            return tensor.dtype is torch.uint8 and tensor.dim() == 1
        if kind not in ("optimizer", "gradient", "average") or name not in self.params:
            return False
        shape = () if key == "step" else self.params[name].shape
        return tensor.dtype is torch.float32 and tensor.shape == shape and bool(tensor.isfinite().all())

    def put(self, path: str, tensor: Tensor) -> None:
        kind, name, key = _parts(path)
        if kind == "random":
            if self.trainer.device.type == "cuda":
                torch.cuda.set_rng_state(tensor, self.trainer.device)
            return
        param = self.params[name]
        # in the weights' memory layout: sums in another order round differently
        placed = torch.empty_like(param).copy_(tensor) if key != "step" else tensor
        if kind == "optimizer":
            self.trainer.optimizer.torch.state[param][key] = placed
        elif kind == "gradient":
            param.grad = placed
        elif self.trainer.ema is not None:  # else the cfg has lost its ema_alpha
            self.trainer.ema.arrays[name] = placed


def _parts(path: str) -> tuple[str, str, str]:
    """Split an array's name into kind, parameter and key."""
    kind, _, rest = path.partition("/")
    name, _, key = rest.partition("/")
    return kind, name, key


def _read(path: Path, take: Any) -> Any:
    try:
        with open_regular(path) as stream, ZipFile(stream) as archive:
            members = archive.infolist()
        # darkpy does not compress it: its arrays take no more memory than the file has bytes
        is_compressed = any(member.compress_type != ZIP_STORED for member in members)
        if is_compressed or sum(member.file_size for member in members) > path.stat().st_size:
            raise DarkpyError(f"{path}: is not a resume file: its contents are larger than the file")
        with np.load(path, allow_pickle=False) as file:
            return take(file)
    except DarkpyError:
        raise
    # numpy's and Python's readers of damaged archives, headers and JSON raise nearly any exception
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DarkpyError(f"{path}: is not a resume file, or a broken one: {reason}") from error


class Checkpoints:
    """Writes the weights of a run into a folder, as `BASE` and the ends of names that `intervals` gives.

    best: largest mean average precision so far, best_by: best value of the metric; the resume file stores both.
    metric: label of the metric by which the best weights are kept; empty for none.
    resume: the resume file that the run continues from. fingerprint: settings of the training, for the next ones.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        intervals: Intervals,
        *,
        metric: str = "",
        resume: Resume | None = None,
        fingerprint: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.trainer, self.folder, self.intervals, self.fingerprint = trainer, folder, intervals, fingerprint
        self.best = resume.best if resume is not None else NO_MAP
        self.best_by = resume.best_by if resume is not None and resume.best_by is not None else BestValue(metric=metric)
        if resume is not None and resume.best_by is None and resume.best != NO_MAP:  # of an old version
            self.best_by.value = resume.best
        if metric and self.best_by.metric != metric:
            message = f"the best weights were those by {self.best_by.metric}; by {metric} the next ones replace them"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
            self.best_by = BestValue(metric=metric)
        self.base = base_name(trainer.network.plan.file)
        self._obsolete = list(self._find_obsolete(resume))
        base = re.escape(self.base)
        remove_temporaries(folder, rf"{base}(_\w+)?\.(weights|backup|resume|cfg)|chart_{base}\.png")
        remove_temporaries(folder / ARTIFACTS_FOLDER, rf"{base}_update_\d+(_\d+)?")

    def save_due(self, report: UpdateReport) -> tuple[Path, ...]:
        """Write what the intervals ask for after an update. Returns: the weight files written."""
        names = self.intervals.names_due(report)
        return self.save(*names) if names else ()

    def save(self, *names: str) -> tuple[Path, ...]:
        """Write the weights to `BASE` + each of the names, and the averaged ones beside the last.

        A disk that has no room for the resume file as well gets the weights alone, with a warning.
        Returns: the weight files written.
        Raises: DarkpyError when they hold NaN or infinity, and then nothing is written.
        """
        trainer, network = self.trainer, self.trainer.network
        chunks = list(network.pack_weights())
        sha, fingerprint = digest(chunks), self.fingerprint
        resume = self.folder / f"{self.base}_{trainer.batch_num}.resume"
        paths = [self.folder / f"{self.base}{name}" for name in names]
        try:
            write_resume(resume, trainer, weights=sha, best=self.best, best_by=self.best_by, fingerprint=fingerprint)
            _write_weights(paths, chunks)
        except DarkpyError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            with suppress(OSError):  # also where no file can be written
                resume.unlink()
            _write_weights(paths, chunks)
            message = f"{error.message}: the weights are written without a resume file, and a continued run differs"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
        for path in self._obsolete:
            if path != resume:
                path.unlink(missing_ok=True)
        self._obsolete = [resume]
        if trainer.ema is not None and trainer.ema.arrays and self.intervals.last in names:
            paths.append(self.folder / f"{self.base}_ema.weights")
            with trainer.ema.in_place():
                network.save_weights(paths[-1])
        return tuple(paths)

    def save_best(self, value: float, *, use_ema: bool = False) -> Path | None:
        """Write the weights as `BASE_best.weights` unless they were better before. Returns: the file, if written.

        value: of the metric, larger is better. use_ema: write the averaged weights, of which it is.
        Source: AlexeyAB/darknet src/detector.c train_detector
        """
        if not self.best_by.follow(self.trainer.batch_num, value):
            return None
        ema = self.trainer.ema
        with ema.in_place() if use_ema and ema is not None else nullcontext():
            self.trainer.network.save_weights(self.best_path)
        return self.best_path

    @property
    def best_path(self) -> Path:
        return self.folder / f"{self.base}_best.weights"

    def _find_obsolete(self, resume: Resume | None) -> Iterator[Path]:
        """Yield the resume files that the first checkpoint replaces.

        They belong to this run, or to weights that it overwrites. Others may be the user's own copies.
        """
        known = [self.fingerprint, resume.fingerprint if resume is not None else {}]
        overwritten: set[str] | None = None
        for path in resume_files(self.folder, self.base):
            try:
                other = open_resume(path)
            except DarkpyError:
                continue
            if overwritten is None:
                names = (self.intervals.last, self.intervals.final)
                files = (self.folder / f"{self.base}{name}" for name in names)
                overwritten = {digest_file(file) for file in files if file.is_file()}
            if other.weights in overwritten or (other.fingerprint and other.fingerprint in known):
                yield path


def base_name(cfg: str) -> str:
    """Return the start of a cfg's checkpoints' names: its file name up to the first dot that does not begin it.

    Differs: in darknet all cfgs that begin with a dot have an empty one, and overwrite each other's weights.
    """
    name = Path(cfg).name
    bare = name.lstrip(".")
    return name[: len(name) - len(bare)] + bare.partition(".")[0]


def _write_weights(paths: Sequence[Path], chunks: Sequence[bytes]) -> None:
    for path in paths:
        write_atomic(path, chunks, replace_input=True)  # a run goes on in its own files


def find_resume(weights: Path, base: str) -> Resume | None:
    """Find the resume file that belongs to a weight file, beside it; warn of a run's that belongs to other weights."""
    paths = resume_files(weights.parent, base)
    sha = digest_file(weights) if paths else ""
    messages: list[str] = []
    for path in paths:
        try:
            resume = open_resume(path)
        except DarkpyError as error:
            messages.append(error.message)
            continue
        if resume.weights == sha:
            return resume
        messages.append(f"{path}: not used, it belongs to other weights than {weights}, after {resume.seen} images")
    for message in messages:
        warnings.warn(message, DarkpyWarning, stacklevel=2)
    return None


def resume_files(folder: Path, base: str) -> list[Path]:
    """Raises: DarkpyError when the folder cannot be read."""
    pattern = re.compile(rf"{re.escape(base)}_\d+\.resume")
    try:
        return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    except OSError as error:
        raise DarkpyError(f"{folder}: cannot be read: {error.strerror or error}") from error
