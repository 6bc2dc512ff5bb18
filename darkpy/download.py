"""Download of published weights: mirrors in order, resumed where it broke off, checked by size and SHA-256."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkpy.catalog import CatalogModel
from darkpy.errors import DarkpyError
from darkpy.files import make_folder

BLOCK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30


def download_weights(model: CatalogModel, target: Path) -> Iterator[int]:
    """Download a network's weights to a file, and yield the bytes done after each block.

    An incomplete download is kept beside the target (`.part`) and continued by the next call.
    Raises: DarkpyError when no mirror gives the file, with each one's reason, or it cannot be written.
    """
    make_folder(target.parent)
    part = target.with_name(f"{target.name}.part")
    reasons = []
    with _claimed(part):
        for url in model.urls:
            try:
                yield from _download(url, part, model)
                part.replace(target)
                return
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
                reasons.append(f"  {url}: {reason}")
    message = "\n".join((f"the weights of {model.name} could not be downloaded", *reasons))
    raise DarkpyError(message, hint=f"download them elsewhere and copy them to {target} (SHA-256 {model.sha256})")


@contextmanager
def _claimed(part: Path) -> Iterator[None]:
    """Hold the lock of a part, where locks are available: two processes that append to it would corrupt it.

    Raises: DarkpyError when another process holds it, or the part cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        stream = part.open("ab")
    except OSError as error:
        raise DarkpyError(f"{part}: cannot be written: {error.strerror or error}") from error
    with stream:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DarkpyError(f"{part}: another process downloads this file", hint="wait for it") from error
        try:
            yield
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _download(url: str, part: Path, model: CatalogModel) -> Iterator[int]:
    """Continue a part from one mirror. Raises: OSError, HTTPException or ValueError when the file is not complete."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("is not an http address")
    digest, done = hashlib.sha256(), 0
    if part.exists():
        if part.stat().st_size > model.size:
            part.unlink()
        else:
            with part.open("rb") as stream:
                while block := stream.read(BLOCK_BYTES):
                    digest.update(block)
                    done += len(block)
                    yield done
    if done < model.size:
        request = urllib.request.Request(url, headers={"User-Agent": "darkpy", "Range": f"bytes={done}-"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:  # the server sends the whole file again
                digest, done = hashlib.sha256(), 0
            with part.open("ab" if done else "wb") as stream:
                while done <= model.size and (block := response.read(BLOCK_BYTES)):
                    stream.write(block)
                    digest.update(block)
                    done += len(block)
                    yield done
    if done < model.size:
        raise ValueError(f"broke off after {done} of {model.size} bytes")
    if done > model.size or digest.hexdigest() != model.sha256:
        part.unlink()
        raise ValueError("is another file: its size or SHA-256 differs from the published one")
