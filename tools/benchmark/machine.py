"""Description of the machine that a benchmark runs on."""

from __future__ import annotations

import os
import platform
from typing import Any

from darkpy.process import count_cores, cpu_name


def describe_machine() -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "cores": count_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
