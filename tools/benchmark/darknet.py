"""AlexeyAB's program as a runner; it prints the time of each update or forward pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from darkpy.files import write_atomic

TIMEOUT_SECONDS = 600
NAMED_CLASSES = 80
_FORWARD_MS = re.compile(r"Predicted in ([0-9.]+) milli-seconds")
_UPDATE_SECONDS = re.compile(r"^ *\d+: .* rate, ([0-9.]+) seconds", re.MULTILINE)


class TrainingProgram:
    """AlexeyAB's `darknet detector train`, started anew in each turn; its times exclude the loading of images.

    folder: with net.data and the images it lists. cfg: its text, with max_batches={updates}.
    """

    def __init__(self, name: str, program: Path, folder: Path, cfg: str, threads: int) -> None:
        self.name, self.version = name, str(program)
        self.fault = None if os.access(program, os.X_OK) and program.is_file() else f"{program}: not an executable file"
        self._folder, self._cfg = folder, cfg
        self._environment: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def run(self, times: int) -> list[float]:
        """Return the seconds of each of the first updates."""
        write_atomic(self._folder / "program.cfg", [self._cfg.format(updates=times).encode()])
        command = [str(Path(self.version).absolute()), "detector", "train", "net.data", "program.cfg", "-dont_show"]
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            timeout=TIMEOUT_SECONDS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        seconds = [float(text) for text in _UPDATE_SECONDS.findall(done.stdout)]
        if done.returncode or len(seconds) != times:
            sys.exit(f"{self.name}: exit code {done.returncode} after {len(seconds)} updates: {done.stdout[-500:]}")
        return seconds

    def close(self) -> None:
        """Do nothing: no process runs between two turns."""


class TestProgram:
    """AlexeyAB's `darknet detector test`, started anew in each turn; its times are those of the forward pass."""

    def __init__(self, name: str, program: Path, cfg: Path, weights: Path, threads: int) -> None:
        self.name, self.version = name, str(program)
        self.fault = None if os.access(program, os.X_OK) and program.is_file() else f"{program}: not an executable file"
        self._files = (str(cfg.absolute()), str(weights.absolute()))
        self._environment: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def run(self, times: int) -> list[float]:
        """Return the seconds of the forward pass of each image; the image is always the same."""
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            Image.new("RGB", (416, 416), (90, 120, 150)).save(directory / "a.png")
            write_atomic(directory / "net.names", [b"\n".join(b"%d" % index for index in range(NAMED_CLASSES))])
            write_atomic(directory / "net.data", [b"classes=%d\nnames=net.names\n" % NAMED_CLASSES])
            (directory / "data/labels").mkdir(parents=True)
            # no score is above 2: drawing the thousands of boxes of random weights would take minutes
            options = ("-dont_show", "-thresh", "2")
            done = subprocess.run(
                [str(Path(self.version).absolute()), "detector", "test", "net.data", *self._files, *options],
                cwd=folder,
                env=self._environment,
                timeout=TIMEOUT_SECONDS,
                input="a.png\n" * times,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        seconds = [float(text) / 1000 for text in _FORWARD_MS.findall(done.stdout)]
        if len(seconds) != times:
            sys.exit(f"{self.name}: exit code {done.returncode} after {len(seconds)} images: {done.stdout[-500:]}")
        return seconds

    def close(self) -> None:
        """Do nothing: no process runs between two turns."""
