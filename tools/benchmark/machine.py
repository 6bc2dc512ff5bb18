"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "cores": count_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def count_cores() -> int:
    """Physical cores that this process may use; where the system does not tell, as many as it has threads."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    siblings = (Path(topology.format(cpu)) for cpu in os.sched_getaffinity(0))
    return len({path.read_text() if path.exists() else str(path) for path in siblings})
