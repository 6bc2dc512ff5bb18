"""A cfg file under construction: sections in order, the comments between them, and their text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

# Text where darknet's spelling matters (".1", "1.0"), a number where there is only one way to write it.
Value = str | int
Keys = Mapping[str, Value]

# The order of the keys of [net], and the comment above each group.
NET_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("batch", "subdivisions", "time_steps", "inputs", "width", "height", "channels", "letter_box")),
    ("schedule", ("learning_rate", "policy", "power", "steps", "scales", "burn_in", "max_batches")),
    ("", ("momentum", "decay", "adam", "ema_alpha")),
    ("augmentation", ("min_crop", "max_crop", "angle", "aspect", "hue", "saturation", "exposure", "mosaic")),
)


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a cfg file and the comment above it."""

    type: str
    keys: Keys
    note: str = ""

    def text(self) -> str:
        lines = [*_comment_lines(self.note), f"[{self.type}]"]
        lines += _net_lines(self.keys) if self.type == "net" else _key_lines(self.keys)
        return "\n".join(lines) + "\n"


def _comment_lines(text: str) -> list[str]:
    return [f"# {line}" for line in text.splitlines()]


def _key_lines(keys: Keys) -> list[str]:
    return [f"{key}={value}" for key, value in keys.items()]


def _net_lines(keys: Keys) -> list[str]:
    unknown = set(keys) - {key for _, group in NET_GROUPS for key in group}
    if unknown:
        raise KeyError(f"[net] keys without a place in NET_GROUPS: {', '.join(sorted(unknown))}")
    lines: list[str] = []
    for comment, group in NET_GROUPS:
        present = {key: keys[key] for key in group if key in keys}
        if present and comment:
            lines.append(f"# {comment}")
        lines += _key_lines(present)
    return lines


class Cfg:
    """A cfg under construction.

    Every method that adds a layer returns the layer's index; `back` turns an index into a relative one for the section
    added next. `activation` is the default of convolutions.
    """

    def __init__(self, about: str, net: Keys, activation: str = "leaky") -> None:
        self.activation = activation
        self._about = about
        self._sections = [Section("net", net)]
        self._note = ""

    def text(self) -> str:
        """Return the text of the file: a comment on the network, then the sections, a blank line before each."""
        header = "\n".join(_comment_lines(self._about)) + "\n"
        return "\n".join([header, *(section.text() for section in self._sections)])

    def note(self, text: str) -> None:
        """Put a comment above the section added next."""
        self._note = text

    def add(self, section: str, **keys: Value) -> int:
        """Add a section of any type."""
        self._sections.append(Section(section, keys, self._note))
        self._note = ""
        return len(self._sections) - 2

    def extend(self, **keys: Value) -> None:
        """Add keys to the section added last."""
        section = self._sections[-1]
        self._sections[-1] = replace(section, keys={**section.keys, **keys})

    def back(self, layer: int) -> int:
        """Return a layer's index relative to the section added next."""
        return layer - (len(self._sections) - 1)

    def conv(self, filters: int, size: int, stride: int = 1, *, activation: str = "") -> int:
        """Add a convolution with batch norm, padded to keep width and height at stride 1."""
        shape = {"filters": filters, "size": size, "stride": stride, "pad": 1}
        activation = activation or self.activation
        return self.add("convolutional", batch_normalize=1, **shape, activation=activation)

    def plain_conv(self, filters: int, size: int = 1, stride: int = 1, *, pad: int = 1, activation: str) -> int:
        """Add a convolution with biases instead of batch norm."""
        shape = {"filters": filters, "size": size, "stride": stride, "pad": pad}
        return self.add("convolutional", **shape, activation=activation)

    def maxpool(self, size: int = 2, stride: int = 2) -> int:
        return self.add("maxpool", size=size, stride=stride)

    def upsample(self) -> int:
        return self.add("upsample", stride=2)

    def route(self, *layers: int, **keys: Value) -> int:
        """Concatenate layers along the channels; with a single one, continue from it."""
        return self.add("route", layers=",".join(map(str, layers)), **keys)

    def shortcut(self, layer: int, activation: str = "linear") -> int:
        """Add the sum of the last layer and an earlier one."""
        return self.add("shortcut", **{"from": self.back(layer)}, activation=activation)

    def last(self) -> int:
        """Return the index of the layer added last."""
        return len(self._sections) - 2
