"""One room for each section type. Importing this package fills the registry."""

from darkpy.layers import (  # noqa: F401
    connected,
    conv_lstm,
    convolutional,
    cost,
    crnn,
    gru,
    history,
    local,
    lstm,
    maxpool,
    rnn,
    route,
    shortcut,
    upsample,
    yolo,
)
