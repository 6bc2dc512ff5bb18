"""Candidates of a grid: their positions and their order."""

from __future__ import annotations

import torch

from darkpy.ops.boxes import cells, channel_mask, channel_runs, pick

NUMBERS_BCHW = torch.arange(2 * 6 * 2 * 3).view(2, 6, 2, 3).float()  # 2 anchors of 3 entries


def test_cells_are_a_view_of_the_map() -> None:
    entries_BHWAE = cells(NUMBERS_BCHW, 3)
    assert entries_BHWAE.shape == (2, 2, 3, 2, 3)
    assert entries_BHWAE[1, 0, 2, 1].tolist() == [NUMBERS_BCHW[1, 3 + e, 0, 2].item() for e in range(3)]
    assert entries_BHWAE.data_ptr() == NUMBERS_BCHW.data_ptr()


def test_candidates_come_image_by_image_then_cell_by_cell_or_anchor_by_anchor() -> None:
    entries_BHWAE = cells(NUMBERS_BCHW, 3)
    wanted_BHWA = entries_BHWAE[..., 0] % 5 == 1
    by_cell, by_anchor = pick(entries_BHWAE, wanted_BHWA), pick(entries_BHWAE, wanted_BHWA, by_anchor=True)
    for found, cell_weight, anchor_weight in ((by_cell, 10, 1), (by_anchor, 1, 100)):
        column_M, row_M = found.cell_M2.unbind(1)
        rank_M = 1000 * found.image_M + cell_weight * (3 * row_M + column_M) + anchor_weight * found.anchor_M
        assert len(rank_M) == wanted_BHWA.sum() and torch.equal(rank_M, rank_M.sort().values)
        place = (found.image_M, row_M, column_M, found.anchor_M)
        assert torch.equal(found.entry_ME, entries_BHWAE[place]) and wanted_BHWA[place].all()
    assert by_cell.anchor_M.tolist() != by_anchor.anchor_M.tolist()


def test_centers_are_fractions_of_the_map() -> None:
    entries_BHWAE = cells(NUMBERS_BCHW[:1], 6)
    found = pick(entries_BHWAE, torch.ones(1, 2, 3, 1, dtype=torch.bool))
    center_M2 = found.center_frac(torch.full((6, 2), 0.5))
    torch.testing.assert_close(center_M2[4], torch.tensor([1.5 / 3, 1.5 / 2]))


def test_channel_mask_repeats_for_each_anchor() -> None:
    assert channel_mask((0, 2), 3, 2).flatten().tolist() == [True, False, True] * 2


def test_runs_of_channels_are_those_of_the_mask() -> None:
    for chosen in ((2, 3), (0, 1), (0, 2, 3), (), range(6)):
        runs = channel_runs(chosen, 6, 2)
        found = torch.zeros(12, dtype=torch.bool)
        for run in runs:
            found[run] = True
        assert torch.equal(found, channel_mask(chosen, 6, 2).flatten())
    assert channel_runs((2, 3), 6, 2) == (slice(2, 4), slice(8, 10))
