"""Statistics and values of the arrays of a weight file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import DarkpyError
from darkpy.export.filter_image import GAP_PX, MAX_SIDE_PX, TILE_SIDE_PX, draw_filters, filters_of
from darkpy.export.weight_stats import array_stats, layer_at, rows_of
from darkpy.export.weight_tools import LoadedWeights, new_weights

NET = "[net]\nwidth=6\nheight=6\nchannels=3\n"
CONV = "[maxpool]\n[convolutional]\nfilters=2\nsize=3\nbatch_normalize=1\n"
CFG = NET + CONV + "[gru]\noutput=2\n[deconvolutional]\nfilters=3\n"


def loaded_file(cutoff: int | None = None) -> LoadedWeights:
    return LoadedWeights(new_weights(make_plan(CFG)).network, cutoff)


def test_figures_are_the_arrays() -> None:
    loaded = loaded_file()
    weights = loaded.network.layers[1].get_parameter("weights").detach()
    actual = {one.array: one for one in array_stats(loaded, loaded.plan.nodes[1])}
    assert list(actual) == ["biases", "scales", "rolling_mean", "rolling_variance", "weights"]
    one, numbers = actual["weights"], weights.numpy().astype(np.float64)
    assert (one.layer, one.count, one.not_finite) == (1, 54, 0)
    assert one.mse == pytest.approx(np.sqrt((numbers**2).mean()))
    assert one.mean == pytest.approx(numbers.mean())
    assert one.variance == pytest.approx(numbers.var())
    assert (one.minimum, one.maximum) == (numbers.min(), numbers.max())


@torch.no_grad()
def test_what_is_no_number_is_counted_and_left_out() -> None:
    loaded = loaded_file()
    loaded.network.layers[1].get_parameter("scales").copy_(torch.tensor([torch.nan, 3.0]))
    loaded.network.layers[1].get_parameter("biases").fill_(-torch.inf)
    biases, scales, *_ = array_stats(loaded, loaded.plan.nodes[1])
    assert (scales.not_finite, scales.mean, scales.variance) == (1, 3, 0)
    assert biases.not_finite == 2 and np.isnan(biases.mean)


def test_a_row_is_a_filter() -> None:
    loaded = loaded_file()
    for index, filters in ((1, 2), (3, 3)):
        ((name, rows),) = rows_of(loaded, layer_at(loaded, index))
        weights = loaded.network.layers[index].get_parameter("weights")
        assert name == "weights" and rows.shape == (filters, weights.numel() // filters)
        assert torch.equal(rows[1], (weights[1] if index == 1 else weights[:, 1]).flatten())
    parts = dict(rows_of(loaded, layer_at(loaded, 2)))
    assert list(parts) == [f"{part}.weights" for part in ("wz", "wr", "wh", "uz", "ur", "uh")]
    ((name, rows),) = rows_of(loaded, layer_at(loaded, 1), "scales")
    assert (name, rows.tolist()) == ("scales", [[1], [1]])


@pytest.mark.parametrize(
    ("index", "message"),
    [(-1, "no layer -1"), (4, "0 to 3"), (0, "with weights: 1"), (2, "ends before layer 2")],
)
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(index: int, message: str) -> None:
    with pytest.raises(DarkpyError) as caught:
        layer_at(loaded_file(cutoff=2), index)
    assert message in str(caught.value)


def test_an_array_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(DarkpyError, match=r"its arrays: wz\.biases, wz\.weights, wr"):
        list(rows_of(loaded_file(), layer_at(loaded_file(), 2), "wz"))


def test_filters_of_three_channels_are_drawn_in_color_each_with_its_own_contrast() -> None:
    weights_FCKK = torch.zeros(2, 3, 2, 2)
    weights_FCKK[0, 0, 0, 0], weights_FCKK[0, 1, 1, 1] = 5, -5
    weights_FCKK[1, 2, 0, 1] = 0.1
    image_HW3 = draw_filters(weights_FCKK)
    assert image_HW3.shape == (TILE_SIDE_PX, 2 * TILE_SIDE_PX + GAP_PX, 3)
    assert image_HW3[0, 0].tolist() == [255, 128, 128] and image_HW3[-1, TILE_SIDE_PX - 1].tolist() == [128, 0, 128]
    assert not image_HW3[:, TILE_SIDE_PX : TILE_SIDE_PX + GAP_PX].any()
    assert image_HW3[0, -1].tolist() == [0, 0, 255]


def test_other_filters_are_rows_of_their_channels_and_a_flat_one_is_black() -> None:
    weights_FCKK = torch.arange(40.0).reshape(5, 8, 1, 1)
    weights_FCKK[4] = 7
    image_HW3 = draw_filters(weights_FCKK)
    assert image_HW3.shape == (5 * (TILE_SIDE_PX + GAP_PX) - GAP_PX, 8 * (TILE_SIDE_PX + GAP_PX) - GAP_PX, 3)
    assert image_HW3[0, 0].tolist() == [0] * 3 and image_HW3[0, -1].tolist() == [255] * 3
    assert not image_HW3[-1].any()


def test_a_image_stays_small_however_many_filters_there_are() -> None:
    for shape in ((128, 64, 3, 3), (128, 3, 1, 1), (32, 32, 200, 200)):
        assert max(draw_filters(torch.rand(shape)).shape) <= MAX_SIDE_PX


def test_the_first_convolution_is_drawn_or_the_one_that_is_named() -> None:
    loaded = loaded_file()
    assert filters_of(loaded)[0].index == 1
    assert filters_of(loaded, 3)[0].index == 3
    with pytest.raises(DarkpyError, match="no filters"):
        filters_of(loaded, 2)
    with pytest.raises(DarkpyError, match="no filters"):
        filters_of(loaded_file(cutoff=1))
