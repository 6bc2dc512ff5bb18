"""`darkpy models` and `darkpy fetch`: the networks that come with darkpy, and their published weights."""

from __future__ import annotations

import json
from pathlib import Path

import click

from darkpy.catalog import SHA256_SOURCE, WEIGHTS_LICENSE, CatalogModel, catalog, find_cfg
from darkpy.cli import console
from darkpy.cli.options import OUTPUT_PATH, Command, json_option, require_writable
from darkpy.errors import DarkpyError

MODELS_HELP = f"""List the networks that come with darkpy.

\b
  darkpy models
  darkpy show yolov3
  darkpy fetch yolov3-tiny
  darkpy detect yolov3-tiny dog.jpg

Their names stand for their cfg files, and, once fetched, for their weights. SHA-256 sums are {SHA256_SOURCE}.
License of the weights: {WEIGHTS_LICENSE}.
"""
FETCH_HELP = """Download the published weights of a network into the cache (darkpy/ in XDG_CACHE_HOME or ~/.cache).

\b
  darkpy fetch yolov3-tiny
  darkpy fetch yolov4 --out yolov4.weights

A download that broke off is continued. Size and SHA-256 must be those of `darkpy models`. No other command downloads.
"""


@click.command(cls=Command, help=MODELS_HELP)
@json_option
def models(as_json: bool) -> None:
    if as_json:
        console.echo(json.dumps([_record(model) for model in catalog().values()]))
        return
    for model in catalog().values():
        console.echo(model.name)
        if model.urls:
            state = "fetched" if model.cached_weights.is_file() else f"darkpy fetch {model.name}"
            console.echo(f"  weights: {model.size / 1e6:.0f} MB, {state}")
            console.echo(f"  sha256:  {model.sha256}")
            for url in model.urls:
                console.echo(f"  from:    {url}")
    console.echo(f"The SHA-256 sums are {SHA256_SOURCE}. License of the weights: {WEIGHTS_LICENSE}.")


def _record(model: CatalogModel) -> dict[str, object]:
    return {
        "name": model.name,
        "cfg": str(model.cfg),
        "names": None if model.names is None else str(model.names),
        "bytes": model.size,
        "sha256": model.sha256,
        "urls": model.urls,
        "weights": str(model.cached_weights) if model.cached_weights.is_file() else None,
        "license": WEIGHTS_LICENSE if model.urls else None,
    }


@click.command(cls=Command, help=FETCH_HELP)
@click.argument("name")
@click.option("--out", type=OUTPUT_PATH, metavar="FILE", help="Write the weights here instead.")
def fetch(name: str, out: Path | None) -> None:
    from darkpy.download import BLOCK_BYTES, download_weights

    model = catalog().get(name)
    if model is None:
        find_cfg(name)  # its error names similar ones
        raise DarkpyError(f"{name}: no network of this name", hint="darkpy models lists them")
    if not model.urls:
        raise DarkpyError(f"{name}: no published weights are known", hint="darkpy models lists those that are")
    target = out or model.cached_weights
    if out is None and target.is_file():
        console.info(f"{target} is there already")
        return
    if out is not None:
        require_writable(out, overwrite=False, hint="name another file")
    for _ in console.track(download_weights(model, target), max(1, model.size // BLOCK_BYTES)):
        continue
    console.echo(str(target))
