"""[region]: layouts and boxes of both dialects against loops over darknet's memory; class trees against loops."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, DarkpyError, ShapeError
from darkpy.layers.region import RegionSpec

PJ, AX = Dialect
H, W, THRESH = 2, 3, 0.25
KEYS = "classes=4\nnum=2\nanchors=.6,.8, 1.2,1\n"
TREE = "beast -1\nthing -1\nrock -1\ncat 0\ndog 0\ncar 1\npug 4\npoodle 4\n"
PARENT = [-1, -1, -1, 0, 0, 1, 4, 4]
GROUPS = [[0, 1, 2], [3, 4], [5], [6, 7]]  # classes of one parent
TREE_KEYS = "classes=8\nnum=2\nanchors=.6,.8, 1.2,1\nsoftmax=1\n"

Box = tuple[list[float], float, list[float]]


def region(dialect: Dialect, keys: str, channels: int = 18) -> tuple[RegionSpec, torch.nn.Module]:
    plan = make_plan(f"[net]\nheight={H}\nwidth={W}\nchannels={channels}\n[region]\n{keys}", dialect)
    (node,) = plan.nodes
    assert isinstance(node.spec, RegionSpec)
    return node.spec, node.spec.build(node.inputs, plan.net)


def noise(channels: int = 18) -> torch.Tensor:
    return 2 * torch.randn(2, channels, H, W, generator=torch.Generator().manual_seed(11))


@pytest.fixture
def tree(tmp_path: Path) -> str:
    path = tmp_path / "small.tree"
    path.write_text(TREE)
    return f"{TREE_KEYS}tree={path}\n"


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def entries_at(spec: RegionSpec, memory: list[float], n: int, cell: int) -> list[float]:
    """Entries of one anchor at one cell, in the dialect's memory layout."""
    if spec.dialect is AX:
        start = (cell * spec.num + n) * spec.entries
        return memory[start : start + spec.entries]
    return [memory[(n * spec.entries + e) * H * W + cell] for e in range(spec.entries)]


def darknets_order(spec: RegionSpec) -> list[tuple[int, int]]:
    """(anchor, cell) of each candidate."""
    if spec.dialect is AX:
        return [(n, cell) for cell in range(H * W) for n in range(spec.num)]
    return [(n, cell) for n in range(spec.num) for cell in range(H * W)]


def darknets_box(spec: RegionSpec, numbers: list[float], n: int, cell: int) -> list[float]:
    row, column = divmod(cell, W)
    x, y = (logistic(place) if spec.dialect is AX else place for place in numbers[:2])
    w, h = (math.exp(size) * spec.anchors[2 * n + axis] for axis, size in enumerate(numbers[2:4]))
    return [(column + x) / W, (row + y) / H, w / W, h / H]


def darknets_boxes(spec: RegionSpec, memory: list[float]) -> list[Box]:
    """(box, objectness, class scores) of one image without a tree; pjreddie's drops boxes by their objectness."""
    actual = []
    for n, cell in darknets_order(spec):
        numbers = entries_at(spec, memory, n, cell)
        scale = 1.0 if spec.background else numbers[spec.coords]
        if spec.dialect is PJ and scale <= THRESH:
            continue
        if spec.dialect is AX and spec.classfix == -1 and scale < 0.5:
            scale = 0.0
        scores = [scale * score for score in numbers[spec.coords + 1 :]]
        objectness = 1.0 if spec.dialect is AX else scale
        kept = [score if score > THRESH else 0.0 for score in scores]
        actual.append((darknets_box(spec, numbers, n, cell), objectness, kept))
    return actual


def assert_decoded(spec: RegionSpec, output_BCHW: torch.Tensor) -> None:
    actual = spec.decode(output_BCHW, 32 * W, 32 * H, THRESH)
    for image in range(len(output_BCHW)):
        expected = darknets_boxes(spec, output_BCHW[image].flatten().tolist())
        assert any(any(scores) for _, _, scores in expected)
        of_image = actual.of(image)
        for place, got in enumerate((of_image.boxes_M4, of_image.objectness_M, of_image.prob_MK)):
            torch.testing.assert_close(got, torch.tensor([candidate[place] for candidate in expected]))


@pytest.mark.parametrize("softmax", ["", "softmax=1\n"])
@pytest.mark.parametrize(("dialect", "more"), [(PJ, ""), (PJ, "background=1\n"), (AX, ""), (AX, "classfix=-1\n")])
def test_boxes_are_darknets_in_darknets_order(dialect: Dialect, more: str, softmax: str) -> None:
    spec, module = region(dialect, KEYS + more + softmax)
    assert_decoded(spec, module(noise()))


def test_pjreddies_boxes_may_have_more_coords_which_are_logistic() -> None:
    spec, module = region(PJ, KEYS + "coords=6\n", 22)
    x_BCHW = noise(22)
    y_BCHW = module(x_BCHW)
    assert_decoded(spec, y_BCHW)
    for channel in (4, 5, 6, 15, 16, 17):
        torch.testing.assert_close(y_BCHW[:, channel], x_BCHW[:, channel].sigmoid())


@pytest.mark.parametrize("softmax", [False, True])
def test_alexeyabs_output_lies_cell_by_cell_with_raw_centers(softmax: bool) -> None:
    spec, module = region(AX, KEYS + f"softmax={int(softmax)}\n")
    x_BCHW = noise()
    y_BCHW = module(x_BCHW)
    assert y_BCHW.shape == x_BCHW.shape
    for n, cell in darknets_order(spec):
        row, column = divmod(cell, W)
        before = x_BCHW[1, n * 9 : (n + 1) * 9, row, column]
        after = torch.tensor(entries_at(spec, y_BCHW[1].flatten().tolist(), n, cell))
        classes = before[5:].softmax(0) if softmax else before[5:]
        torch.testing.assert_close(after, torch.cat((before[:4], before[4:5].sigmoid(), classes)))


def test_pjreddies_classes_are_logistic_without_softmax_and_share_one_with_the_background() -> None:
    x_BCHW = noise()
    x_BAEHW = x_BCHW.view(2, 2, 9, H, W)
    for keys, start, classes in (
        ("", 5, x_BAEHW[:, :, 5:].sigmoid()),
        ("softmax=1\n", 5, x_BAEHW[:, :, 5:].softmax(2)),
        ("background=1\nsoftmax=1\n", 4, x_BAEHW[:, :, 4:].softmax(2)),
        ("background=1\n", 4, torch.cat((x_BAEHW[:, :, 4:5], x_BAEHW[:, :, 5:].sigmoid()), 2)),
    ):
        y_BAEHW = region(PJ, KEYS + keys)[1](x_BCHW).view(2, 2, 9, H, W)
        torch.testing.assert_close(y_BAEHW[:, :, start:], classes)
        torch.testing.assert_close(y_BAEHW[:, :, :2], x_BAEHW[:, :, :2].sigmoid())
        assert torch.equal(y_BAEHW[:, :, 2:4], x_BAEHW[:, :, 2:4])


@pytest.mark.parametrize("dialect", Dialect)
def test_an_objectness_or_score_at_the_threshold_is_not_above_it(dialect: Dialect) -> None:
    spec, _ = region(dialect, "classes=1\nanchors=1,1\n", 6)
    cells = torch.zeros(H * W, 6)
    cells[:3, 4:] = torch.tensor([[0.5, 1.0], [1.0, 0.5], [1.0, 0.75]])
    memory = cells if dialect is AX else cells.T.contiguous()
    actual = spec.decode(memory.reshape(1, 6, H, W), 96, 64, 0.5)
    if dialect is PJ:
        assert (actual.objectness_M.tolist(), actual.prob_MK.tolist()) == ([1.0, 1.0], [[0.0], [0.75]])
    else:
        assert actual.objectness_M.tolist() == [1.0] * 6
        assert actual.prob_MK.flatten().tolist() == [0.0, 0.0, 0.75, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(("dialect", "keys"), [(PJ, ""), (PJ, "softmax=1\n"), (AX, "softmax=1\n"), (AX, "")])
def test_gradients_flow_through_the_head(dialect: Dialect, keys: str) -> None:
    _, module = region(dialect, KEYS + keys)
    assert torch.autograd.gradcheck(module, noise()[:1].double().requires_grad_())


@pytest.mark.parametrize("dialect", Dialect)
def test_a_tree_has_one_softmax_for_each_group(dialect: Dialect, tree: str) -> None:
    spec, module = region(dialect, tree, 26)
    x_BCHW = noise(26)
    y_BCHW = module(x_BCHW)
    for n, cell in darknets_order(spec):
        row, column = divmod(cell, W)
        before = x_BCHW[0, n * 13 + 5 : (n + 1) * 13, row, column]
        after = torch.tensor(entries_at(spec, y_BCHW[0].flatten().tolist(), n, cell)[5:])
        torch.testing.assert_close(after, torch.cat([before[group].softmax(0) for group in GROUPS]))


def absolute(scores: list[float]) -> list[float]:
    """Each score times those of all its ancestors."""
    done: list[float] = []
    for parent, score in zip(PARENT, scores, strict=True):
        done.append(score * done[parent] if parent >= 0 else score)
    return done


def descended(prob: list[float], thresh: float) -> int:
    """Class at which the descent from the root ends."""
    product, group, above = 1.0, GROUPS[0], -1
    while True:
        best = max(group, key=lambda number: prob[number])
        product *= prob[best]
        children = [number for number, parent in enumerate(PARENT) if parent == best]
        if product <= thresh:
            return best if above < 0 else above
        if not children:
            return best
        group, above = children, best


def tree_output(spec: RegionSpec, module: torch.nn.Module) -> torch.Tensor:
    """Head output for a map with confident and unconfident classes."""
    sharpness_B1HW = torch.linspace(0.2, 4, 2 * H * W).view(2, 1, H, W)
    y_BCHW = module(noise(26) * sharpness_B1HW)
    assert isinstance(y_BCHW, torch.Tensor)
    return y_BCHW


@pytest.mark.parametrize("tree_thresh", [0.1, 0.4, 0.8])
def test_pjreddie_descends_the_tree_above_the_threshold(tree_thresh: float, tree: str) -> None:
    spec, module = region(PJ, tree, 26)
    output_BCHW = tree_output(spec, module)
    actual, ends = spec.decode(output_BCHW, 96, 64, THRESH, tree_thresh), set()
    for image in range(2):
        rows = iter(actual.of(image).prob_MK.tolist())
        for n, cell in darknets_order(spec):
            numbers = entries_at(spec, output_BCHW[image].flatten().tolist(), n, cell)
            if numbers[4] > THRESH:
                expected = [0.0] * 8
                end = descended(absolute(numbers[5:]), tree_thresh)
                expected[end] = numbers[4]
                ends.add(end)
                assert next(rows) == pytest.approx(expected)
        assert next(rows, None) is None
    assert len(ends) >= 3


def test_alexeyab_keeps_the_last_class_above_one_half_without_its_objectness(tree: str) -> None:
    spec, module = region(AX, tree, 26)
    output_BCHW = tree_output(spec, module)
    actual, chosen = spec.decode(output_BCHW, 96, 64, THRESH), set()
    for image in range(2):
        rows = actual.of(image).prob_MK.tolist()
        assert len(rows) == 2 * H * W
        for (n, cell), row in zip(darknets_order(spec), rows, strict=True):
            numbers = entries_at(spec, output_BCHW[image].flatten().tolist(), n, cell)
            prob = absolute(numbers[5:])
            expected = [0.0] * 8
            sure = [number for number in range(8) if prob[number] > 0.5]
            if sure and numbers[4] > THRESH:
                expected[sure[-1]] = prob[sure[-1]]
                chosen.add(sure[-1])
            assert row == pytest.approx(expected)
    assert len(chosen) >= 3


@pytest.mark.parametrize("dialect", Dialect)
def test_mapped_classes_become_the_columns(dialect: Dialect, tree: str) -> None:
    spec, module = region(dialect, tree, 26)
    output_BCHW = tree_output(spec, module)
    actual = spec.decode(output_BCHW, 96, 64, THRESH, class_map=(5, 0, 3))
    expected = []
    for image in range(2):
        for n, cell in darknets_order(spec):
            numbers = entries_at(spec, output_BCHW[image].flatten().tolist(), n, cell)
            prob = absolute(numbers[5:])
            if dialect is AX or numbers[4] > THRESH:
                scores = [numbers[4] * prob[number] for number in (5, 0, 3)]
                expected.append([score if score > THRESH else 0.0 for score in scores])
    torch.testing.assert_close(actual.prob_MK, torch.tensor(expected))
    assert actual.prob_MK.any()


def test_a_map_to_classes_the_tree_lacks_is_refused(tree: str) -> None:
    spec, module = region(PJ, tree, 26)
    with pytest.raises(DarkpyError, match="the map names class 8, but classes=8"):
        spec.decode(tree_output(spec, module), 96, 64, THRESH, class_map=(0, 8))


def test_a_tree_of_other_classes_is_refused(tree: str) -> None:
    with pytest.raises(ShapeError, match=r"small.tree has 8 classes, but classes=4"):
        region(PJ, KEYS + tree.removeprefix(TREE_KEYS))


def test_a_tree_is_looked_for_beside_the_cfg(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "small.tree").write_text(TREE)
    cfg = tmp_path / "net.cfg"
    cfg.write_text(f"[net]\nheight=2\nwidth=3\nchannels=26\n[region]\n{TREE_KEYS}tree=data/small.tree\n")
    plan = make_plan(cfg)
    plan.nodes[0].spec.build(plan.nodes[0].inputs, plan.net)


@pytest.mark.parametrize(("dialect", "keys", "channels", "message"), [
    (PJ, KEYS, 17, r"reads 17 channels, but num=2 x \(coords=4 \+ 1 \+ classes=4\) are 18\n.*filters=18"),
    (PJ, "num=2147483647\n", 18, "reads 18 channels, but num=2147483647"),
    (AX, "classes=2147483647\n", 18, "reads 18 channels, but num=1"),
    (PJ, "coords=2147483647\n", 18, "reads 18 channels, but num=1 x"),
    (PJ, "coords=3\n", 18, "coords=3 is below 4"),
    (AX, KEYS + "coords=5\n", 20, "coords=5, but it must be 4 in the alexeyab dialect\n.*--dialect pjreddie"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused_before_anything_is_allocated(
    dialect: Dialect, keys: str, channels: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        region(dialect, keys, channels)


def test_dialects_have_their_own_keys_and_defaults() -> None:
    (mine, _), (other, _) = region(PJ, KEYS + "focal_loss=1\n"), region(AX, KEYS + "background=1\n")
    assert (mine.max, mine.focal_loss, other.max, other.background) == (30, False, 200, False)
