"""A network and the list of images that it is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkpy.cli import console
from darkpy.cli.load import class_names, open_network
from darkpy.config.classmap import read_class_map
from darkpy.data.lists.data_file import DataFile, read_data
from darkpy.data.lists.names import names_for
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkpy.evaluation.average_precision import MeanAveragePrecision
    from darkpy.evaluation.detect import ImageStatus
    from darkpy.evaluation.ground_truth import GroundTruth
    from darkpy.evaluation.runner import Metric


class Task:
    """A network with its weights, names for its classes, and the images of the list that valid= in a .data file names.

    with_class_map: whether map= says which classes of a tree are wanted; then only these have names.
    Raises: DarkpyError when one of the files cannot be read, ConfigError, WeightsError.
    """

    def __init__(
        self,
        data: Path,
        cfg: Path,
        weights: Path,
        *,
        default_list: str = "data/train.txt",
        with_class_map: bool = False,
        **opening: Any,
    ) -> None:
        from darkpy.data.lists.paths import read_image_list

        self.data = read_data(data)
        names_file = self.data.find_names()
        self.paths = read_image_list(_find_list(self.data, default_list))
        self._opening = {"cfg": cfg, "weights": weights, "examples": self.paths, **opening}
        self.network = open_network(**self._opening)
        self.class_map = self._read_class_map() if with_class_map else ()
        tree_names = names_for(len(self.class_map), names_file) if self.class_map else None
        self.names = tree_names or class_names(self.network, names_file)

    def read_ground_truth(self) -> GroundTruth:
        """The labels of the images, warned of where something is wrong with them."""
        return self._read(self.paths)

    def read_difficult(self) -> GroundTruth | None:
        """The objects that the list of difficult= has, which need not be found."""
        from darkpy.data.lists.paths import read_image_list

        file = self.data.find("difficult")
        if file is None:
            return None
        paths = read_image_list(file)
        if len(paths) != len(self.paths):
            raise DarkpyError(
                f"{file}: lists {len(paths)} images, the list of valid= has {len(self.paths)}",
                hint="difficult= and valid= name the same images in the same order",
            )
        return self._read(paths)

    def run(self, judges: Sequence[Metric], batch_size: int | None) -> list[ImageStatus]:
        """Show the network all images; those that cannot be read are complained of."""
        from darkpy.evaluation.runner import run_metrics

        views = []
        for view in console.track(
            run_metrics(self.network, self.paths, judges, batch_size=batch_size), len(self.paths)
        ):
            if view.error is not None:
                console.error(view.error)
            views.append(view)
        return views

    def tell_loss(
        self, found: MeanAveragePrecision, points: int, letterbox: bool | None, batch_size: int | None
    ) -> None:
        """Say what the precision that was asked for has cost: fp32 is judged in the same way, on the same images."""
        from darkpy.evaluation.average_precision import AveragePrecision, map_options
        from darkpy.evaluation.ground_truth import read_ground_truth
        from darkpy.evaluation.runner import Metric

        precision = self._opening.get("precision", "fp32")
        if precision == "fp32":
            return
        truths = read_ground_truth(self.paths, self.network.plan.dialect, len(self.names))
        ranking = AveragePrecision(
            truths,
            len(self.names),
            iou_thresh=found.iou_thresh,
            thresh=found.thresh,
            difficult=self.read_difficult(),
        )
        self.network = open_network(**self._opening | {"precision": "fp32"})
        self.run([Metric(map_options(self.network, letterbox), ranking.add)], batch_size)
        exact = ranking.result(points)
        lost = 100 * (found.mean - exact.mean)
        console.info(f"mAP {found.mean:.2%} in {precision}, {exact.mean:.2%} in fp32: {lost:+.2f} points")

    def _read_class_map(self) -> tuple[int, ...]:
        file = self.data.find("map")
        has_tree = any(getattr(head, "tree", None) for head in self.network.heads)  # nobody else reads it
        if file is None or not has_tree:
            return ()
        return read_class_map(file, max(head.class_count for head in self.network.heads))

    def _read(self, paths: Sequence[Path]) -> GroundTruth:
        from darkpy.evaluation.ground_truth import read_ground_truth

        truths = read_ground_truth(paths, self.network.plan.dialect, len(self.names))
        if truths.missing:
            console.warn(
                f"images without labels: {len(truths.missing)} of {len(paths)}; the first: {truths.missing[0]}"
            )
        if truths.problems:
            console.warn(f"wrong lines in label files: {len(truths.problems)}; the first: {truths.problems[0]}")
        return truths


def _find_list(data: DataFile, default: str) -> Path:
    file = data.find("valid", default)
    assert file is not None
    if "valid" not in data.entries and not file.is_file():
        raise DarkpyError(f"{data.path}: has no valid=", hint="name the list of images to be judged by: valid=val.txt")
    return file
