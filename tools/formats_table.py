"""Measure how far the outputs of other runtimes are from darkpy's: the table of networks in docs/formats.md.

python tools/formats_table.py                          measures every network in cfg/ in the runtimes of this Python
python tools/formats_table.py yolov4 cifar "OpenCV 4"  measures these networks, and these runtimes only

Other cells stay: OpenCV 4 and 5 are measured from two virtual environments.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it finds darkpy there

from darkpy.errors import DarkpyError
from tests.export.runtimes import CFG, NETWORKS, RUNTIMES, Comparison

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
TABLE = re.compile(r"(?<=<!-- networks: begin -->\n).*?(?=<!-- networks: end -->)", re.DOTALL)
NOT_MEASURED = "-"
CRASHED = "crash"
ONE_NETWORK = "--print"


def measure(network: str, runtimes: Sequence[str]) -> None:
    """Print a line for each runtime: its name, and the difference or the reason that there is none."""
    warnings.simplefilter("ignore")
    comparison = Comparison(CFG / f"{network}.cfg")
    for name in runtimes:
        with TemporaryDirectory() as folder:
            print(name, CRASHED, sep="\t", end="\t", flush=True)  # replaced by what follows, if it gets that far
            try:
                print(f"{comparison.difference(RUNTIMES[name], Path(folder)):.0e}".replace("e-0", "e-"), flush=True)
            except DarkpyError as error:
                print("refused", error.message, sep="\t", flush=True)


def measured(network: str, runtimes: Sequence[str]) -> dict[str, str]:
    """Measure a network in a process of its own. Returns: cells by runtime."""
    words = [sys.executable, __file__, ONE_NETWORK, network, *runtimes]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    cells = {}
    for name, crashed, *result in (line.split("\t") for line in done.stdout.splitlines() if line.count("\t") > 1):
        cells[name] = result[0] or crashed
        print(network, name, *result, flush=True)
    return cells


def read_table(page: str) -> dict[str, dict[str, str]]:
    """Cells of the page's table by network and runtime; the runtimes with their versions are the row `network`."""
    lines = TABLE.findall(page)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
    columns = [next(name for name in RUNTIMES if cell.startswith(name)) for cell in rows[0][1:]]
    return {network: dict(zip(columns, cells, strict=True)) for network, *cells in rows}


def write_table(table: dict[str, dict[str, str]]) -> str:
    header = {name: table["network"].get(name, name) for name in RUNTIMES}
    lines = [["network", *header.values()], ["---"] * (1 + len(RUNTIMES))]
    lines += [[name, *(table.get(name, {}).get(runtime, NOT_MEASURED) for runtime in RUNTIMES)] for name in NETWORKS]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(words: Sequence[str]) -> None:
    networks = [word for word in words if word not in RUNTIMES] or NETWORKS
    runtimes = [word for word in words if word in RUNTIMES] or RUNTIMES
    versions = {name: version for name in runtimes if (version := RUNTIMES[name].version) is not None}
    for network in networks:
        cells = measured(network, list(versions))
        page = PAGE.read_text(encoding="utf-8")
        table = read_table(page)
        table.setdefault(network, {}).update(cells)
        table["network"] |= {
            name: f"{name.removesuffix(RUNTIMES[name].major_version).strip()} {version}"
            for name, version in versions.items()
        }
        PAGE.write_text(TABLE.sub(write_table(table), page), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == [ONE_NETWORK]:
        measure(sys.argv[2], sys.argv[3:])
    else:
        main(sys.argv[1:])
