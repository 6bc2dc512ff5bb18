"""The table of runtimes and networks in docs/formats.md, and the tool that measures it."""

from __future__ import annotations

from tests.export.runtimes import NETWORKS, RELATIVE, RUNTIMES
from tools.formats_table import NOT_MEASURED, PAGE, read_table, write_table


def test_every_network_is_in_the_table_and_every_measured_difference_is_within_the_tolerance() -> None:
    table = read_table(PAGE.read_text(encoding="utf-8"))
    assert table.keys() == {"network", *NETWORKS}
    for network in NETWORKS:
        measured = [cell for name in RUNTIMES if (cell := table[network][name]) != NOT_MEASURED]
        assert all(float(cell) <= RELATIVE for cell in measured), network


def test_a_table_that_is_read_is_written_the_same() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert write_table(read_table(page)) in page
