"""Character models: one byte in, a distribution over the next byte out."""

from __future__ import annotations

from .schedules import optimizer
from .writer import Cfg, Keys

STEP_KEYS: Keys = {"batch": 1, "subdivisions": 1, "time_steps": 1, "inputs": 256}


def predict_byte(cfg: Cfg, activation: str) -> None:
    cfg.note("256 bytes")
    cfg.add("connected", output=256, activation=activation)
    cfg.add("softmax")


def rnn() -> Cfg:
    about = "Vanilla RNN on bytes, three layers\npjreddie's file. AlexeyAB's rnn.cfg ends in [cost]"
    schedule: Keys = {"learning_rate": "0.1", "policy": "steps", "steps": "1000,1500", "scales": ".1,.1"}
    cfg = Cfg(about, {**STEP_KEYS, **schedule, "max_batches": 2000, **optimizer(decay="0.001")})
    for _ in range(3):
        cfg.add("rnn", batch_normalize=1, output=1024, hidden=1024, activation="leaky")
    predict_byte(cfg, activation="leaky")
    return cfg


def gru() -> Cfg:
    differences = "pjreddie's file. AlexeyAB's gru.cfg is another network: 1024 wide, with batch norm, ending in [cost]"
    about = f"GRU on bytes, three layers\n{differences}"
    schedule: Keys = {"learning_rate": ".002", "policy": "constant", "power": 4, "max_batches": 1000000}
    cfg = Cfg(about, {**STEP_KEYS, **schedule, **optimizer(decay="0.0"), "adam": 1})
    for _ in range(3):
        cfg.add("gru", output=256)
    predict_byte(cfg, activation="linear")
    return cfg
