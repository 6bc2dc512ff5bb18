"""`--resume auto`: the newest whole checkpoint of a run."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from itertools import chain
from pathlib import Path

from darkpy.build import make_plan
from darkpy.data.lists.text_files import DataFile
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.layers.head import HeadSpec
from darkpy.network import Network
from darkpy.training.checkpoints import Resume, base_name, digest_file, open_resume, resume_files


def find_checkpoint(cfg: Path, data: DataFile, dialect: Dialect | str | None = None) -> tuple[Path | None, str]:
    """Find the newest weight file of a cfg's run in the folder `backup=` that is whole.

    The best, averaged and healthy weights are not checkpoints. Damaged files are skipped with a warning.
    Returns: the file, None if there is none; and a note of what is done.
    Raises: DarkpyError when the cfg, or the folder, cannot be read, or the run has reached max_batches.
    """
    plan = make_plan(cfg, dialect)
    folder, base = data.find_folder("backup", "backup"), base_name(str(cfg))
    ends = [r"_last\.weights", r"_final\.weights", r"_\d+\.weights", r"\.backup"]
    if not any(isinstance(node.spec, HeadSpec) for node in plan.nodes):
        ends.append(r"\.weights")  # the final weights of pjreddie's classifier
    pattern = re.compile(rf"{re.escape(base)}({'|'.join(ends)})")
    resumes: list[Resume] = []
    files: list[tuple[int, Path]] = []
    if folder.is_dir():
        for path in resume_files(folder, base):
            with suppress(DarkpyError):  # for a damaged one there is a warning when its weights are opened
                resumes.append(open_resume(path))
        files = [
            (path.stat().st_mtime_ns, path)
            for path in folder.iterdir()
            if pattern.fullmatch(path.name) and path.is_file()
        ]
    for _, path in sorted(files, reverse=True):
        try:
            seen = _check_whole(path, cfg, dialect, resumes)
        except DarkpyError as error:
            message = f"--resume auto: {error.message}; the checkpoint before it is tried"
            warnings.warn(message, DarkpyWarning, stacklevel=2)
            continue
        net = plan.net
        if net.max_batches and seen >= net.max_batches * net.minibatch * net.subdivisions:
            raise DarkpyError(
                f"--resume auto: the run is finished: {path} has seen {seen} images, max_batches={net.max_batches}",
                hint="raise max_batches in [net] to continue; to restart, --force without --resume auto",
            )
        return path, f"--resume auto: the run continues from {path}, after {seen} images"
    found = f"no whole checkpoint of {base}" if files else f"no checkpoint of {base}"
    return None, f"--resume auto: {found} in {folder}: a new run starts"


def _check_whole(path: Path, cfg: Path, dialect: Dialect | str | None, resumes: list[Resume]) -> int:
    """Check that a weight file fills the network with finite numbers and is what its resume file was written for.

    Returns: the images seen. Raises: DarkpyError when it is damaged.
    """
    network = Network(make_plan(cfg, dialect, weights=path))
    network.load_weights(path)
    if not all(bool(array.isfinite().all()) for array in chain(network.parameters(), network.buffers())):
        raise DarkpyError(f"{path} holds NaN or infinity")
    seen = network.header.seen
    digests = {resume.weights for resume in resumes if resume.seen == seen}
    if digests and digest_file(path) not in digests:
        raise DarkpyError(f"{path} has changed since it was written: it is not what its resume file belongs to")
    return seen
