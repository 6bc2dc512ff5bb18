"""One room for each section type. Importing this package fills the registry."""

from darkpy.layers import (  # noqa: F401
    connected,
    convolutional,
    cost,
    maxpool,
    route,
    shortcut,
    upsample,
    yolo,
)
