"""Catalog of the networks that come with darkpy: cfgs and class names in the package, published weights by URL.

The table is data, `cfg/models.json`. Weights are downloaded only by `darkpy fetch`, into the user's cache.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from darkpy.errors import DarkpyError
from darkpy.files import is_file

CATALOG_FILE = "models.json"
DATA_FILES = ("coco.data", "coco.names", "voc.data", "voc.names")
"""Files beside the cfgs."""
WEIGHTS_LICENSE = "none stated; darkpy's cfgs are its own, darknet's files are in the public domain"
SHA256_SOURCE = "published by others, not by the authors of the weights"


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A network by name.

    cfg: its file. names: file of its class names, if they are known.
    urls: where its weights are published, in the order to try; none for a network without published weights.
    size: of the weights in bytes. sha256: of the weights.
    """

    name: str
    cfg: Path
    names: Path | None = None
    urls: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""

    @property
    def cached_weights(self) -> Path:
        """Path of the downloaded weights, whether they exist or not."""
        return cache_folder() / f"{self.name}.weights"


def cache_folder() -> Path:
    """Folder of downloaded weights: darkpy/ in XDG_CACHE_HOME, by default in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "darkpy"


def catalog_folder() -> Path:
    """Folder of the cfgs: in an installed package zoo/, in a checkout cfg/ beside the package."""
    package = Path(__file__).resolve().parent
    installed = package / "zoo"
    return installed if installed.is_dir() else package.parent / "cfg"


@cache
def catalog() -> dict[str, CatalogModel]:
    """All networks by name, in alphabetical order."""
    folder = catalog_folder()
    try:
        entries = json.loads((folder / CATALOG_FILE).read_text(encoding="utf-8"))
    except OSError:
        entries = {}
    models = {}
    for cfg in sorted(folder.glob("*.cfg")):
        entry = entries.get(cfg.stem, {})
        names = folder / entry["names"] if "names" in entry else None
        urls = tuple(entry.get("urls", ()))
        models[cfg.stem] = CatalogModel(cfg.stem, cfg, names, urls, entry.get("bytes", 0), entry.get("sha256", ""))
    return models


def find_model(name: str | os.PathLike[str]) -> CatalogModel | None:
    """Return the network of a name; None for the path of a file, cfg text, and unknown names.

    A file of that name in the working directory takes precedence.
    """
    text = os.fspath(name)
    return None if "\n" in text or text not in catalog() or Path(text).is_file() else catalog()[text]


def find_cfg(cfg: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the cfg file of a network's name; anything else as it is.

    Raises: DarkpyError for a word that resembles a network's name but is not a file, and for a missing file of its
    name.
    """
    text = os.fspath(cfg)
    if model := find_model(text):
        return model.cfg
    if "\n" not in text:
        require_file(text)
    is_word = not ("\n" in text or "/" in text or "\\" in text or Path(text).suffix)
    close = get_close_matches(text, catalog(), n=3, cutoff=0.7) if is_word else []
    if close and not Path(text).exists():
        hint = f"did you mean {' or '.join(close)}? darkpy models lists all"
        raise DarkpyError(f"{text}: no such file, and no network of this name", hint=hint)
    return cfg


def find_names(cfg: str) -> Path | None:
    """Return the file of class names that belongs to a cfg of the catalog; None for other files."""
    return next((model.names for model in catalog().values() if model.cfg == Path(cfg)), None)


def find_weights(name: str | os.PathLike[str]) -> Path:
    """Return the downloaded weights of a network's name; anything else as a path.

    Raises: DarkpyError when they are not downloaded, or not published, and for a missing file of the network's name.
    """
    model = find_model(name)
    if model is None:
        require_file(name)
        return Path(name)
    if not model.urls:
        raise DarkpyError(f"{model.name}: no published weights are known", hint="name a .weights file")
    if not model.cached_weights.is_file():
        hint = f"darkpy fetch {model.name} downloads them ({model.size >> 20} MB); or name a .weights file"
        raise DarkpyError(f"{model.cached_weights}: the weights of {model.name} are not downloaded", hint=hint)
    return model.cached_weights


def require_file(path: str | os.PathLike[str]) -> None:
    """Check that a file exists if its name is that of one that comes with darkpy, or is downloaded.

    Raises: DarkpyError for a missing one, such as `cfg/yolov3.cfg` outside darknet's folder, with its name here.
    """
    file = Path(path)
    model, hint = catalog().get(file.stem), ""
    if file.suffix == ".cfg" and model is not None:
        hint = f"{model.name} by itself is the cfg that comes with darkpy"
    elif file.suffix == ".weights" and model is not None and model.urls:
        hint = f"{model.name} in its place names the weights that darkpy fetch {model.name} downloads"
    elif file.name in DATA_FILES:
        hint = f"{catalog_folder() / file.name} comes with darkpy"
    if hint and not is_file(file):
        raise DarkpyError(f"{os.fspath(path)}: no such file", hint=hint)
