"""`darkpy convert`: write weights in another file format, or for the other dialect."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.catalog import find_model, find_weights
from darkpy.cli import console
from darkpy.cli.input_size import InputSize
from darkpy.cli.load import calibration_images, class_names
from darkpy.cli.options import (
    CFG_PATH,
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    UnitFloat,
    collect,
    dialect_option,
    force_option,
    json_option,
    max_pixels_option,
    require_writable,
    strict_option,
)
from darkpy.data.lists.text_files import read_data, read_names
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyNote, DarkpyWarning
from darkpy.evaluation import formats

if TYPE_CHECKING:
    from darkpy.build import Plan
    from darkpy.export.convert import Source, Target
    from darkpy.export.onnx_graph import OnnxOptions
    from darkpy.export.verify import SourceRun, VerifyResult
    from darkpy.network import Network

FILE_FORMATS = ("weights", "pt", "safetensors", "onnx", "ncnn", "torchscript", "pt2", "coreml", "deepstream")
EXIT_CODE_DIFFERENCE = 1

CONVERT_HELP = """Convert weights between .weights, .pt and .safetensors, and export networks to other runtimes.

\b
  darkpy convert yolov3.weights yolov3.safetensors --cfg yolov3.cfg
  darkpy convert yolov3.safetensors yolov3.weights
  darkpy convert yolov3.weights yolov3.onnx --cfg yolov3.cfg --output boxes --check dog.jpg

The format of SRC is detected from its content; that of DST follows its extension (.weights, .pt, .safetensors, .onnx,
.param, .torchscript, .pt2, .mlpackage), or --to, which makes DST optional. An existing DST is replaced only with
--force. SRC may also be a .cfg, for the .weights of the same name.

A .pt file is a state dict (torch.load(FILE, weights_only=True)). .pt and .safetensors keep the cfg and the header and
trailing bytes of the .weights file, so that converting back gives the same bytes and needs no --cfg. No code in .pt
files is executed: arrays are read, everything else is refused.

.pt files of these programs are read too: ultralytics/yolov3 (up to version 8), PyTorch-YOLOv3, pytorch-yolo2,
pytorch-YOLOv4.

\b
  darkpy convert best.pt mine.weights --cfg yolov3.cfg --bn-eps 1e-4
  darkpy convert 2015.weights today.weights --cfg 2015.cfg
  darkpy convert theirs.weights mine.weights --cfg rnn.cfg --dialect pjreddie --for alexeyab

From .weights to .weights, old headers are updated and transposed arrays transposed back. --for reorders arrays for the
other dialect ([gru] and [lstm] differ) and reports what it computes differently.

An .onnx file takes any number of images (RGB, 0 to 1) per batch. Its outputs are those of the heads (layer16, ...);
with --output raw what the heads read; with --output boxes boxes (image, candidate, center x, y, w, h as fractions of
the input) and scores (image, candidate, class); with --output rows each head has a row of box, objectness and scores
per candidate, as in cv2.dnn.readNetFromDarknet; with --output corners x1, y1, x2, y2 in pixels, score and class of each
candidate. --nms runs NMS inside the file: detections holds image, class, score, x, y, w, h of each detection. Its
metadata holds cfg, anchors and class names. --size, --dynamic-size and --precision fp16 or int8 make other files.

Other runtimes: .param with a .bin beside it (ncnn), .torchscript, .pt2 (torch.export), .mlpackage (Core ML, for macOS
and iOS), and --to deepstream, which writes NVIDIA DeepStream's configuration with its .onnx file.

Everything a format cannot store and every number that changes is reported. --check runs source and result on an image
and prints their difference and their detections; the exit code is 1 when an output differs by more than 1e-4 (fp16 .02,
int8 .5) of its largest value.
"""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of the command for an exported network; None means the default."""

    output: str | None
    nms: float | None
    precision: str | None
    calibrate: Path | None
    size: tuple[int, int] | None
    dynamic_size: bool
    thresh: float | None

    def for_target(self, target: Target) -> OnnxOptions:
        """Options of the graph. Raises: UsageError for those that contradict each other, or the target."""
        from darkpy.export.onnx_graph import OnnxOptions

        for option, is_given in (("--nms", self.nms is not None), ("--dynamic-size", self.dynamic_size)):
            if is_given and target.name != "onnx":
                raise click.UsageError(f"{option} is for .onnx files")
        if self.size is not None and target.run is None:
            raise click.UsageError(f"--size is for exported networks, and weights ({target.name}) have no size")
        if (self.calibrate is None) == (self.precision == "int8"):
            raise click.UsageError("--precision int8 and --calibrate IMAGES need each other")
        for option, value, accepted in (
            ("--output", self.output, target.forms),
            ("--precision", self.precision, target.precisions),
        ):
            if value is not None and value not in accepted:
                choice = f", which take {', '.join(accepted)}" if accepted else ""
                raise click.UsageError(f"{option} {value} is not for {target.name} files{choice}")
        if self.nms is not None and self.output not in (None, "boxes"):
            raise click.UsageError(f"--nms needs boxes, and --output {self.output} has none")
        form = self.output or ("boxes" if self.nms is not None else target.forms[0] if target.forms else "heads")
        options = OnnxOptions(form, self.nms, precision=self.precision or "fp32", dynamic_size=self.dynamic_size)
        return options if self.thresh is None else replace(options, thresh=self.thresh)


_export_options = collect(
    ExportOptions,
    "export",
    click.option(
        "--output",
        type=click.Choice(("heads", "raw", "boxes", "rows", "corners")),
        help="Outputs of an exported network.  [default: heads]",
    ),
    click.option("--nms", type=UnitFloat(), metavar="0..1", help="Run NMS with this IoU inside the .onnx file."),
    click.option(
        "--precision",
        type=click.Choice(("fp32", "fp16", "int8")),
        help="Precision of an exported network; int8 needs --calibrate.  [default: fp32]",
    ),
    click.option(
        "--calibrate",
        type=FILE_PATH,
        metavar="IMAGES",
        help="Folder or list of images that calibrate --precision int8.",
    ),
    click.option(
        "--size", type=InputSize(), metavar="N|WxH", help="Input size of an exported network.  [default: the cfg's]"
    ),
    click.option("--dynamic-size", is_flag=True, help="Let the .onnx file take any height and width that fit the cfg."),
    click.option("-thresh", "--thresh", type=UnitFloat(), metavar="0..1", help="Lowest score for --nms and --check."),
)


@click.command(cls=Command, help=CONVERT_HELP)
@click.argument("source", metavar="SRC", type=FILE_PATH)
@click.argument("target", metavar="[DST]", type=OUTPUT_PATH, required=False)
@click.option("--cfg", type=CFG_PATH, help="The network.  [default: the cfg inside or beside SRC]")
@click.option("--to", "extension", type=click.Choice(FILE_FORMATS), help="File format.  [default: DST's extension]")
@click.option("--names", type=FILE_PATH, help="Class names, one per line, to store in DST.")
@click.option("--data", type=FILE_PATH, help="A .data file with the class names.")
@_export_options
@click.option("--check", "image", type=FILE_PATH, metavar="IMAGE", help="Compare source and result on this image.")
@json_option
@click.option("--allow-partial", is_flag=True, help="Accept partial weights.")
@click.option(
    "--for",
    "target_dialect",
    type=click.Choice([str(dialect) for dialect in Dialect]),
    help="Dialect to convert to.  [default: that of SRC]",
)
@click.option(
    "--bn-eps",
    type=click.FloatRange(0, 1),
    metavar="NUMBER",
    help="Adjust for this batch norm epsilon of SRC.",
)
@force_option
@dialect_option
@strict_option
@max_pixels_option
def convert(
    source: Path,
    target: Path | None,
    cfg: Path | None,
    extension: str | None,
    names: Path | None,
    data: Path | None,
    export: ExportOptions,
    image: Path | None,
    as_json: bool,
    allow_partial: bool,
    target_dialect: str | None,
    bn_eps: float | None,
    overwrite: bool,
    dialect: str | None,
    strict: bool,
) -> int:
    from darkpy.build import resize_plan
    from darkpy.data.lists.paths import expand_paths
    from darkpy.export.convert import Conversion, fill, open_source, write_target
    from darkpy.export.dialects import plan_for_dialect, transfer
    from darkpy.export.state_dict import WeightsMetadata
    from darkpy.export.third_party import adjust_bn_epsilon
    from darkpy.export.verify import run_source, verify
    from darkpy.export.weight_tools import upgrade_header
    from darkpy.inference.calibration import calibrate_for_export
    from darkpy.network import Network

    given = source
    source, cfg = _find_source(source, cfg)
    target, writer = _find_target(given, target, extension, overwrite=overwrite)
    graph_options = export.for_target(writer)
    if names is None and data is not None:
        names = read_data(data).find_names()

    opened = open_source(source)
    plan, cfg_text = find_plan(opened, cfg, dialect, strict=strict)
    if export.size is not None:
        plan = resize_plan(plan, *export.size)
    network = Network(plan)
    loaded = fill(opened, network, allow_partial=allow_partial)
    if bn_eps is not None:
        adjust_bn_epsilon(network, bn_eps)
    called = loaded.names
    if image is not None or writer.run is not None or names:
        called = _class_names(network, names, loaded.names)
    source_run = None
    if image is not None:
        if loaded.cutoff is not None:
            raise DarkpyError(
                f"--check needs complete weights: {network.plan.place(loaded.cutoff)} and later layers have none"
            )
        source_run = run_source(network, image, called, export.thresh)

    notes: list[str] = []
    if target_dialect is not None and Dialect(target_dialect) is not network.plan.dialect:
        other_plan = plan_for_dialect(cfg_text, network.plan, Dialect(target_dialect))
        network, notes = transfer(network, loaded.cutoff, other_plan)
    elif target_dialect is not None or opened.kind == writer.name == "weights":
        upgrade_header(network)
    # COCO's or VOC's by number stay out of files of weights
    has_own_names = names is not None or bool(loaded.names) or writer.run is not None
    stored_names = called if has_own_names else ()
    metadata = WeightsMetadata(network.header, loaded.cutoff, cfg_text, network.plan.dialect, stored_names)
    if export.calibrate is not None:
        images = calibration_images(network, expand_paths([export.calibrate]))
        graph_options = replace(graph_options, quantization=calibrate_for_export(network, images))
    conversion = Conversion(network, metadata, graph_options)
    dropped = writer.dropped(conversion)
    write_target(conversion, writer, target)
    extent = _describe_extent(plan, loaded.cutoff)
    for message in (*loaded.notes, *notes, *dropped, f"{target} holds {extent}"):
        console.info(message)
    if source_run is None:
        return 0
    result = verify(source_run, target, writer, network.plan, graph_options.precision)
    return _print_check(source_run, result, target, as_json=as_json)


def _find_target(source: Path, path: Path | None, name: str | None, *, overwrite: bool) -> tuple[Path, Target]:
    """Return the file to write and its kind. Raises: UsageError; DarkpyError if it or one beside it is there."""
    from darkpy.export.convert import TARGET_FORMATS, target_for

    if path is None:
        if name is None:
            raise click.UsageError("name the file to write (DST) or its format (--to)")
        path = source.with_suffix(TARGET_FORMATS[name].suffixes[0])
    target = target_for(path, name)
    for file in (path, *(path.with_suffix(suffix) for suffix in target.companions)):
        require_writable(file, overwrite=overwrite)
    return path, target


def _describe_extent(plan: Plan, cutoff: int | None) -> str:
    nodes = [node for node in plan.nodes[:cutoff] if node.arrays]
    extent = f"{sum(node.parameter_count for node in nodes)} weights of {len(nodes)} layers"
    return extent if cutoff is None else f"{extent} (a partial file: up to {plan.place(nodes[-1].index)})"


def _find_source(source: Path, cfg: Path | None) -> tuple[Path, Path | None]:
    """Return the weights and the cfg, if they are given by a network's name or by a cfg with weights beside it."""
    if model := find_model(source):
        source, cfg = find_weights(model.name), cfg or model.cfg
        console.info(f"{model.name}: cfg {cfg}, weights {source}")
    elif source.suffix.lower() == ".cfg":
        given, source = source, source.with_suffix(".weights")
        if not source.is_file():
            raise DarkpyError(
                f"{given}: a cfg has no weights, and there is no {source.name} beside it",
                hint=f"darkpy convert WEIGHTS DST --cfg {given}",
            )
        cfg = cfg or given
    return source, cfg


def find_plan(source: Source, cfg: Path | None, dialect: str | None, *, strict: bool) -> tuple[Plan, str]:
    """Plan of the network that the weights belong to, and its cfg text.

    Raises: ConfigError; DarkpyError when there is no cfg.
    """
    from darkpy.build import make_plan
    from darkpy.config.text import deduplicate

    beside = source.path.with_suffix(".cfg")
    if cfg is None and source.metadata.cfg is None and not (beside != source.path and beside.is_file()):
        raise DarkpyError(f"{source.path}: holds no cfg, and none is beside it", hint="name its cfg: --cfg CFG")
    if cfg is None and source.metadata.cfg is not None:
        plan = make_plan(f"{source.metadata.cfg}\n", dialect or source.metadata.dialect, strict=strict)
        return replace(plan, file=f"{source.path}'s cfg"), source.metadata.cfg
    cfg = cfg or beside
    plan = make_plan(cfg, dialect or source.metadata.dialect, strict=strict, weights=source.path)
    for finding in deduplicate(plan.warnings):
        warnings.warn(str(finding), DarkpyNote if finding.is_note else DarkpyWarning, stacklevel=2)
    return plan, cfg.read_bytes().decode("utf-8-sig", errors="replace")


def _class_names(network: Network, file: Path | None, stored: tuple[str, ...]) -> tuple[str, ...]:
    """Names from the file, else those stored in SRC, else COCO's or VOC's by their number."""
    if file is None and stored:
        return stored
    if network.heads:
        return class_names(network, file)
    return () if file is None else read_names(file)


def _print_check(source_run: SourceRun, result: VerifyResult, target: Path, *, as_json: bool) -> int:
    """Print output differences and both runs' detections. Returns: the exit code."""
    objects = {
        name: formats.by_confidence(formats.visible(found))
        for name, found in (("source", source_run.objects), ("result", result.objects))
    }
    if as_json:
        outputs = [
            {"name": row.name, "difference": row.difference, "largest": row.largest, "departs": row.departs}
            for row in result.rows
        ]
        records = {
            name: formats.image_record(str(target), source_run.size, shown)["objects"]
            for name, shown in objects.items()
        }
        console.echo(json.dumps({"outputs": outputs, **records}))
    else:
        lines = [f"{'output':24} {'largest |a-b|':>14} {'of largest |a|':>15}"] if result.rows else []
        for row in result.rows:
            end = "  differs" if row.departs else ""
            lines.append(f"{row.name:24} {row.difference:14.3g} {row.relative:15.3g}{end}")
        for name, shown in objects.items() if source_run.network.heads else ():
            lines.append(f"{name}: {len(shown)} object{'' if len(shown) == 1 else 's'}")
            lines += formats.object_lines(shown, source_run.size)
        console.echo("\n".join(lines))
    return EXIT_CODE_DIFFERENCE if any(row.departs for row in result.rows) else 0
