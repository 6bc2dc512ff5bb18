"""darknet's own programs as runners: they say on each line how long an update took."""

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

TIMEOUT = 600
CLASSES = 80
_PREDICTED = re.compile(r"Predicted in ([0-9.]+) milli-seconds")
_UPDATE = re.compile(r"^ *\d+: .* rate, ([0-9.]+) seconds", re.MULTILINE)


class TrainingProgram:
    """AlexeyAB's `darknet detector train`, begun anew in each turn; the time it names is without that for images.

    folder: with net.data and the images it lists. cfg: its text, with max_batches={updates}.
    """

    def __init__(self, name: str, program: Path, folder: Path, cfg: str, threads: int) -> None:
        self.name, self.version = name, str(program)
        self.fault = None if os.access(program, os.X_OK) and program.is_file() else f"{program}: is no program"
        self._folder, self._cfg = folder, cfg
        self._environment: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def run(self, times: int) -> list[float]:
        """The seconds of each of the first updates."""
        write_atomic(self._folder / "program.cfg", [self._cfg.format(updates=times).encode()])
        command = [str(Path(self.version).absolute()), "detector", "train", "net.data", "program.cfg", "-dont_show"]
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            timeout=TIMEOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        seconds = [float(found) for found in _UPDATE.findall(done.stdout)]
        if done.returncode or len(seconds) != times:
            sys.exit(f"{self.name} ended with {done.returncode} after {len(seconds)} updates: {done.stdout[-500:]}")
        return seconds

    def close(self) -> None:
        """Nothing runs between two turns."""


class TestProgram:
    """AlexeyAB's `darknet detector test`, begun anew in each turn; the time it names is that of the forward pass."""

    def __init__(self, name: str, program: Path, cfg: Path, weights: Path, threads: int) -> None:
        self.name, self.version = name, str(program)
        self.fault = None if os.access(program, os.X_OK) and program.is_file() else f"{program}: is no program"
        self._files = (str(cfg.absolute()), str(weights.absolute()))
        self._environment: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def run(self, times: int) -> list[float]:
        """The seconds of each of so many images, all the same."""
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder)
            Image.new("RGB", (416, 416), (90, 120, 150)).save(where / "a.png")
            write_atomic(where / "net.names", [b"\n".join(b"%d" % number for number in range(CLASSES))])
            write_atomic(where / "net.data", [b"classes=%d\nnames=net.names\n" % CLASSES])
            (where / "data/labels").mkdir(parents=True)
            # no score is above 2: to draw the thousands of boxes of random weights takes minutes
            options = ("-dont_show", "-thresh", "2")
            done = subprocess.run(
                [str(Path(self.version).absolute()), "detector", "test", "net.data", *self._files, *options],
                cwd=folder,
                env=self._environment,
                timeout=TIMEOUT,
                input="a.png\n" * times,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        seconds = [float(found) / 1000 for found in _PREDICTED.findall(done.stdout)]
        if len(seconds) != times:
            sys.exit(f"{self.name} ended with {done.returncode} after {len(seconds)} images: {done.stdout[-500:]}")
        return seconds

    def close(self) -> None:
        """Nothing runs between two turns."""
