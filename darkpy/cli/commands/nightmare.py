"""darknet's `nightmare`: images that excite a layer."""

from __future__ import annotations

from pathlib import Path

import click

from darkpy.cli import console
from darkpy.cli.load import open_network, write_image
from darkpy.cli.options import (
    FILE_PATH,
    OUTPUT_PATH,
    Command,
    LoadOptions,
    max_pixels_option,
    network_options,
    require_own,
)
from darkpy.errors import DarkpyError
from darkpy.files import make_folder

NIGHTMARE_HELP = """Change an image so that it excites a layer of a network: darknet's `nightmare`, or deep dream.

\b
  darkpy nightmare vgg-conv.cfg vgg-conv.weights scream.jpg 10
  darkpy nightmare jnet-conv.cfg jnet-conv.weights dog.jpg 11 -rounds 4 -range 3
  darkpy nightmare darknet19.cfg darknet19.weights sky.jpg 12 -octaves 6 -zoom .95 -rounds 20 -prefix dream

Each iteration shifts, mirrors and resizes the image at random and moves it along the gradient of the layer's strongest
outputs. The image after each round is IMAGE_CFG_LAYER_000000.jpg and so on, and the next round starts from it, zoomed
and rotated. The random numbers are darknet's: the same command gives the same images.

-reconstruct pulls the image back to the output of the layers before LAYER instead: what zoom and rotation have changed.
Without LAYER it takes all layers.

Later layers make larger patterns. darkpy show CFG lists them. Time and memory grow with the image.
"""


@click.command(cls=Command, help=NIGHTMARE_HELP)
@click.argument("cfg", type=FILE_PATH)
@click.argument("weights", type=FILE_PATH)
@click.argument("image", type=FILE_PATH)
@click.argument("layer", type=click.IntRange(0), required=False)
@click.option(
    "-range",
    "layer_range",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    show_default=True,
    help="Number of layers around LAYER; each iteration draws one.",
)
@click.option(
    "-norm", type=click.IntRange(0, 1), default=1, show_default=True, help="1 scales each change to the same strength."
)
@click.option("-rounds", type=click.IntRange(1), default=1, metavar="N", show_default=True, help="Images to write.")
@click.option(
    "-iters",
    "iterations",
    type=click.IntRange(1),
    default=10,
    metavar="N",
    show_default=True,
    help="Changes in a round.",
)
@click.option(
    "-octaves",
    type=click.IntRange(1),
    default=4,
    metavar="N",
    show_default=True,
    help="Number of sizes, each 3/4 of the one before; each iteration draws one.",
)
@click.option("-rate", type=float, default=0.04, metavar="R", show_default=True, help="Size of a change.")
@click.option(
    "-thresh",
    type=float,
    default=1.0,
    metavar="D",
    show_default=True,
    help="Standard deviations above the mean from which an output is enhanced.",
)
@click.option(
    "-zoom",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    metavar="0..1",
    show_default=True,
    help="Share of the image that the next round sees.",
)
@click.option(
    "-rotate",
    type=float,
    default=0.0,
    metavar="RADIANS",
    show_default=True,
    help="Rotation from one round to the next.",
)
@click.option(
    "-momentum",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.9,
    metavar="0..1",
    show_default=True,
    help="Momentum of -reconstruct.",
)
@click.option("-reconstruct", "reconstructs", is_flag=True, help="Reconstruct the image from the layers before LAYER.")
@click.option("-prefix", "folder", type=OUTPUT_PATH, default=Path(), metavar="DIR", help="Folder for the images.")
@click.option("--overwrite", is_flag=True, help="Overwrite images that darkpy did not make.")
@network_options
@max_pixels_option
def nightmare(
    cfg: Path,
    weights: Path,
    image: Path,
    layer: int | None,
    layer_range: int,
    norm: int,
    rounds: int,
    iterations: int,
    octaves: int,
    rate: float,
    thresh: float,
    zoom: float,
    rotate: float,
    momentum: float,
    reconstructs: bool,
    folder: Path,
    overwrite: bool,
    load: LoadOptions,
) -> None:
    import PIL.Image

    from darkpy.data.loading.images import load_image
    from darkpy.export.layer_excitation import ExcitationOptions, excite, reconstruct
    from darkpy.training.checkpoints import base_name

    network = open_network(cfg, weights, load, accelerated=False).for_inference()
    if layer is None and not reconstructs:
        raise DarkpyError("no LAYER is given", hint=f"darkpy show {cfg} lists the layers")
    layer = len(network.plan.nodes) if layer is None else layer
    options = ExcitationOptions(
        layer=layer,
        rounds=rounds,
        iterations=iterations,
        octaves=octaves,
        layer_range=layer_range,
        rate=rate,
        thresh=thresh,
        zoom=zoom,
        rotate=rotate,
        normalize=bool(norm),
        momentum=momentum,
    )
    paths = [
        folder / f"{base_name(str(image))}_{base_name(str(cfg))}_{layer}_{number:06d}.jpg" for number in range(rounds)
    ]
    for path in paths:
        require_own(path, overwrite=overwrite, hint="--overwrite overwrites it")
    make_folder(folder)
    image_CHW = load_image(image, channels=network.plan.input_shape.c).to_tensor().to(network.device)
    rounds_made = (reconstruct if reconstructs else excite)(network, image_CHW, options)
    for number, (path, made_CHW) in enumerate(zip(paths, console.track(rounds_made, rounds), strict=True)):
        pixels_HWC = (255 * made_CHW).byte().permute(1, 2, 0).cpu().numpy()
        write_image(PIL.Image.fromarray(pixels_HWC if pixels_HWC.shape[2] == 3 else pixels_HWC[:, :, 0]), path)
        console.echo(f"{number} {path.with_suffix('')}")
