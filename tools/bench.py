"""Time darkpy and its peers on this machine: python tools/bench.py forward [--cfg CFG] [--weights WEIGHTS]."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it finds tools/benchmark there
    from tools.benchmark.command import main

    main()
