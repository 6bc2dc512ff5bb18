"""`darkpy convert`: the same weights in another kind of file."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli import console
from darkpy.cli.commands.checking import look, names_of, show_check
from darkpy.cli.options import FILE_PATH, UnitFloat, dialect_option, force_option, require_writable, strict_option
from darkpy.cli.parsing import Command
from darkpy.data.lists.data_file import read_data
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError, DarkpyWarning
from darkpy.files import write_atomic

if TYPE_CHECKING:
    from darkpy.build import Plan
    from darkpy.export.convert import Source
    from darkpy.export.onnx_graph import OnnxOptions
    from darkpy.network import Network

FORMATS = ("weights", "pt", "safetensors", "onnx")
FORK = click.Choice([str(dialect) for dialect in Dialect])

HELP = """Write a network's weights as another kind of file.

\b
  darkpy convert yolov3.weights yolov3.safetensors --cfg yolov3.cfg
  darkpy convert yolov3.safetensors yolov3.weights
  darkpy convert yolov3.weights yolov3.onnx --cfg yolov3.cfg --output boxes --check dog.jpg

SRC is read for what it is, whatever its name; DST's ending says what to write (.weights, .pt, .safetensors, .onnx), or
--to does, and DST may then be left out. It replaces a file only with --force. SRC may also be a .cfg: the .weights
beside it are meant.

A .pt file is a state dict (torch.load(FILE, weights_only=True)). It and .safetensors keep the cfg, and the header and
end of the .weights file, so that the way back gives the same bytes, and needs no --cfg. From files of others nothing
is run: arrays are read and everything else is refused.

.pt files of programs that read darknet's cfgs are taken too: ultralytics/yolov3 (until its version 8), PyTorch-YOLOv3,
pytorch-yolo2, pytorch-YOLOv4.

\b
  darkpy convert best.pt mine.weights --cfg yolov3.cfg --bn-eps 1e-4
  darkpy convert 2015.weights today.weights --cfg 2015.cfg
  darkpy convert theirs.weights mine.weights --cfg rnn.cfg --dialect pjreddie --for alexeyab

From .weights to .weights, old headers become today's, and transposed files straight. --for puts arrays into the order
of the other darknet ([gru] and [lstm] differ) and tells what it computes otherwise.

An .onnx file computes what the network computes, for any number of images (RGB, 0 to 1) at a time. Its outputs are
the heads' own (layer16, ...); with --output boxes they are boxes (image, candidate, center x, y, w, h as fractions
of the input) and scores (image, candidate, class); with --output rows each head gives a row of box, objectness and
scores for each candidate, as cv2.dnn.readNetFromDarknet did. --nms suppresses inside the file: detections holds
image, class, score, x, y, w, h of each object. The cfg, anchors and class names stand in its metadata.

What a format cannot carry, and every number that changes, is named. --check runs source and result on an image and
prints how far apart they are, and what each sees; the exit code is 1 when an output is off by more than 1e-4 of its
largest number.
"""


@click.command(cls=Command, help=HELP, short_help="Weights as another kind of file.")
@click.argument("source", metavar="SRC", type=FILE_PATH)
@click.argument("target", metavar="[DST]", type=FILE_PATH, required=False)
@click.option("--cfg", type=FILE_PATH, help="The network.  [default: what SRC holds, or the .cfg beside it]")
@click.option("--to", "form", type=click.Choice(FORMATS), help="What to write.  [default: as DST ends]")
@click.option("--names", type=FILE_PATH, help="What the classes are called, one a line; kept in the file.")
@click.option("--data", type=FILE_PATH, help="A .data file, for its names.")
@click.option(
    "--output", type=click.Choice(("heads", "boxes", "rows")), help="What an .onnx file gives.  [default: heads]"
)
@click.option("--nms", type=UnitFloat(), metavar="0..1", help="Run NMS with this IoU inside the .onnx file.")
@click.option(
    "-thresh", "--thresh", type=UnitFloat(), metavar="0..1", help="Of --nms and --check: what is surer than this."
)
@click.option("--check", "image", type=FILE_PATH, metavar="IMAGE", help="Run source and result on this image.")
@click.option("--json", "is_json", is_flag=True, help="Print what --check finds as JSON.")
@click.option("--allow-partial", is_flag=True, help="Take weights that end early as they are.")
@click.option("--for", "fork", type=FORK, help="Whose darknet DST is for.  [default: the one that SRC is of]")
@click.option("--bn-eps", type=click.FloatRange(0, 1), metavar="NUMBER", help="What was added to variances in SRC.")
@force_option
@dialect_option
@strict_option
def convert(
    source: Path,
    target: Path | None,
    cfg: Path | None,
    form: str | None,
    names: Path | None,
    data: Path | None,
    output: str | None,
    nms: float | None,
    thresh: float | None,
    image: Path | None,
    is_json: bool,
    allow_partial: bool,
    fork: str | None,
    bn_eps: float | None,
    overwrite: bool,
    dialect: str | None,
    strict: bool,
) -> int:
    from darkpy.export.convert import Conversion, fill, open_source, pack, target_for
    from darkpy.export.state_dict import WeightsMetadata
    from darkpy.export.third_party import adjust_bn_epsilon
    from darkpy.network import Network

    source, cfg = _found(source, cfg)
    target = _named(source, target, form)
    chosen = target_for(target, form)
    wanted = _onnx_options(output, nms, thresh, is_onnx=chosen.name == "onnx")
    require_writable(target, source, cfg, names, data, image, overwrite=overwrite)
    if names is None and data is not None:
        names = read_data(data).find_names()
    opened = open_source(source)
    plan, text = find_plan(opened, cfg, dialect, strict=strict)
    network = Network(plan)
    filled = fill(opened, network, allow_partial=allow_partial)
    if bn_eps is not None:
        adjust_bn_epsilon(network, bn_eps)
    is_run = image is not None or chosen.name == "onnx"
    called = names_of(network, names, filled.names) if is_run or names else filled.names
    seen = None if image is None else look(network, filled.cutoff, image, called, thresh)
    network, notes = _carried(network, filled.cutoff, text, fork, is_modern=opened.kind == chosen.name == "weights")
    is_guessed = names is None and not filled.names and chosen.name != "onnx"
    about = WeightsMetadata(network.header, filled.cutoff, text, network.plan.dialect, () if is_guessed else called)
    converted = Conversion(network, about, wanted)
    said = [*filled.notes, *notes, *chosen.dropped(converted), f"{target} holds {_extent(plan, filled.cutoff)}"]
    write_atomic(target, pack(converted, chosen))
    for words in said:
        console.info(words)
    return 0 if seen is None else show_check(seen, target, network.plan, chosen.name == "onnx", is_json=is_json)


def _found(source: Path, cfg: Path | None) -> tuple[Path, Path | None]:
    """SRC and its cfg, where SRC itself is the cfg: the weights beside it are meant. Raises: DarkpyError."""
    if source.suffix.lower() != ".cfg":
        return source, cfg
    beside = source.with_suffix(".weights")
    if not beside.is_file():
        raise DarkpyError(
            f"{source}: a cfg has no numbers, and {beside.name} does not lie beside it",
            hint=f"darkpy convert WEIGHTS DST --cfg {source}",
        )
    return beside, cfg or source


def _named(source: Path, target: Path | None, form: str | None) -> Path:
    if target is None and form is None:
        raise click.UsageError("what to write is told by DST or by --to")
    return target or source.with_suffix(f".{form}")


def _onnx_options(output: str | None, nms: float | None, thresh: float | None, *, is_onnx: bool) -> OnnxOptions:
    """Raises: UsageError for options that do not go together."""
    from darkpy.export.onnx_graph import OnnxOptions

    if not is_onnx and (output is not None or nms is not None):
        raise click.UsageError("--output and --nms say what an .onnx file gives")
    if nms is not None and output not in (None, "boxes"):
        raise click.UsageError(f"--nms suppresses boxes, and --output {output} gives none")
    form = output or ("heads" if nms is None else "boxes")
    return OnnxOptions(form, nms) if thresh is None else OnnxOptions(form, nms, thresh)


def find_plan(source: Source, cfg: Path | None, dialect: str | None, *, strict: bool) -> tuple[Plan, str]:
    """The network that a file of weights is for, and the text of its cfg.

    Raises: ConfigError; DarkpyError when there is no cfg.
    """
    from darkpy.build import make_plan
    from darkpy.config.text import deduplicate

    beside = source.path.with_suffix(".cfg")
    if cfg is None and source.metadata.cfg is None and not (beside != source.path and beside.is_file()):
        raise DarkpyError(f"{source.path}: nothing says which network this is", hint="name its cfg: --cfg CFG")
    if cfg is None and source.metadata.cfg is not None:
        plan = replace(
            make_plan(f"{source.metadata.cfg}\n", dialect or source.metadata.dialect, strict=strict),
            file=f"{source.path}'s cfg",
        )
        return plan, source.metadata.cfg
    cfg = cfg or beside
    plan = make_plan(cfg, dialect or source.metadata.dialect, strict=strict)
    for finding in deduplicate(plan.warnings):
        warnings.warn(str(finding), DarkpyWarning, stacklevel=2)
    return plan, cfg.read_bytes().decode("utf-8-sig", errors="replace")


def _carried(
    network: Network, cutoff: int | None, text: str, fork: str | None, *, is_modern: bool
) -> tuple[Network, list[str]]:
    """The network as the other darknet has it, or with today's header, where that is asked for."""
    from darkpy.export.dialects import plan_for_dialect, transfer
    from darkpy.export.weight_tools import upgrade_header

    if fork is not None and Dialect(fork) is not network.plan.dialect:
        return transfer(network, cutoff, plan_for_dialect(text, network.plan, Dialect(fork)))
    if fork is not None or is_modern:
        upgrade_header(network)
    return network, []


def _extent(plan: Plan, cutoff: int | None) -> str:
    nodes = [node for node in plan.nodes[:cutoff] if node.arrays]
    part = "" if cutoff is None else f" (a partial file: up to {plan.place(nodes[-1].index)})"
    return f"{sum(node.parameter_count for node in nodes)} weights of {len(nodes)} layers{part}"
