"""Random and hostile files: a result or a DarkpyError, in bounded time and memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import darkpy
from darkpy.build import Plan, make_plan
from darkpy.config.text import MAX_SECTIONS, MAX_SIZE, parse
from darkpy.errors import DarkpyError
from darkpy.network import Network

GOLDEN = Path(__file__).parent / "golden" / "networks"
CASES = [dict(np.load(path)) for path in sorted(GOLDEN.glob("*/*.npz"))]
RARE = (  # sections that the golden networks lack
    "[net]\nwidth=6\nheight=6\nchannels=4\n[empty]\n[history]\nhistory_size=2\n[implicit]\nfilters=4\n"
    "[sam]\nfrom=0\n[shortcut]\nfrom=-2,-3\nweights_type=per_feature\nweights_normalization=softmax\n",
    "[net]\nwidth=6\nheight=6\nchannels=4\n[deconvolutional]\nfilters=5\nsize=3\nstride=2\npad=1\n[crop]\ncrop_height=4\n"
    "crop_width=4\n[batchnorm]\n[l2norm]\n[iseg]\nclasses=4\nids=1\n",
    "[net]\nwidth=6\nheight=6\nchannels=4\n[convolutional]\nfilters=14\nsize=3\npad=1\nstride=1\ngroups=2\n[yolo]\n"
    "classes=2\nnum=4\nmask=0,1\nanchors=1,2,3,4,5,6,7,8\n[route]\nlayers=0\n[contrastive]\nyolo_layer=1\n[convolutional]\n"
    "share_index=0\nfilters=14\nsize=3\npad=1\ngroups=2\n",
)
CFGS = sorted({*RARE, *(case["cfg"].tobytes().decode() for case in CASES)})
SECTIONS = sorted({section.type for cfg in CFGS for section in parse(cfg).sections})
KEYS = sorted({key for cfg in CFGS for section in parse(cfg).sections for key in section.entries})
VALUES = (
    "0", "1", "2", "3", "5", "-1", "-2", "-3", "7", "64", "1000", "65536", "2147483647", "-2147483648", "99999999999",
    "1e999", "nan", "inf", "-inf", ".", "0.5", "-0.5", "1e-30", "", ",", "1,2,3", "-1,-1", "-1,0,1,", "1,,2", "0,0,0,0",
    "leaky", "mish", "linear", "softmax", "relu", "steps", "x" * 300, "9" * 300, "1," * 300, "#", "=", "é",
    "\x00", "\x7f",
)  # fmt: skip
SMALL = 1 << 16  # numbers of a network, or of a layer's output, that are worth computing with

relaxed = settings(
    deadline=None,
    derandomize=True,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


@st.composite
def mutated_cfgs(draw: st.DrawFn) -> str:
    """A real cfg after a few accidents."""
    lines = draw(st.sampled_from(CFGS)).splitlines()
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("delete", "repeat", "swap", "value", "key", "section", "garbage", "value", "key"))):
            case "delete" if len(lines) > 1:
                del lines[at]
            case "repeat":
                lines[at:at] = lines[at : at + draw(st.integers(1, 8))] * draw(st.integers(1, 4))
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[at], lines[other] = lines[other], lines[at]
            case "value":
                lines[at] = f"{lines[at].partition('=')[0]}={draw(st.sampled_from(VALUES))}"
            case "key":
                lines.insert(at, f"{draw(st.sampled_from(KEYS))}={draw(st.sampled_from(VALUES))}")
            case "section":
                lines.insert(at, f"[{draw(st.sampled_from(SECTIONS))}]")
            case _:
                lines.insert(at, draw(st.text(max_size=30)))
    return "\n".join(lines) + "\n"


def planned(cfg: str, dialect: str | None) -> Plan | None:
    try:
        return make_plan(cfg, dialect)
    except DarkpyError as error:
        assert str(error)
        return None


def is_small(plan: Plan) -> bool:
    sizes = [plan.input_shape.outputs, plan.parameter_count, *(node.shape.outputs for node in plan.nodes)]
    return max(sizes) <= SMALL and plan.bflops < 0.1


def run(plan: Plan, *, training: bool) -> None:
    network = Network(plan).train(training)
    network.initialize()
    with torch.no_grad():
        outputs = network.trace(torch.rand(2 * plan.net.time_steps, *plan.input_shape))
    for node, output in zip(plan.nodes, outputs, strict=True):
        assert tuple(output.shape[1:]) == node.shape, plan.place(node.index)


@relaxed
@given(mutated_cfgs(), st.sampled_from((None, "pjreddie", "alexeyab")), st.booleans())
def test_cfg_that_plans_runs_and_any_other_is_refused(cfg: str, dialect: str | None, training: bool) -> None:
    plan = planned(cfg, dialect)
    if plan is not None and is_small(plan) and plan.net.time_steps <= 8:
        run(plan, training=training)


@relaxed
@given(st.binary(max_size=400))
def test_any_bytes_as_a_cfg_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.cfg"
    path.write_bytes(b"[net]\n" + data)
    with pytest.raises(DarkpyError):
        make_plan(path)


@st.composite
def damaged_weights(draw: st.DrawFn) -> tuple[str, bytes]:
    """A network's cfg, and its weight file after an accident, or something else in its place."""
    case = draw(st.sampled_from(CASES))
    cfg, data = case["cfg"].tobytes().decode(), case["weights"].tobytes()
    header = struct.pack("<3i", *(draw(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3)) for _ in range(3)))
    return cfg, draw(
        st.sampled_from((data, header + data[12:]))
        | st.integers(0, len(data)).map(lambda end: data[:end])
        | st.integers(0, len(data) // 4).map(lambda end: data[: 4 * end])
        | st.binary(max_size=64).map(lambda tail: data + tail)
        | st.binary(max_size=256)
        | st.binary(max_size=256).map(lambda body: header + body)
    )


@relaxed
@given(damaged_weights(), st.booleans())
def test_weight_file_fits_or_is_refused_with_nothing_changed(
    tmp_path: Path, pair: tuple[str, bytes], allow_partial: bool
) -> None:
    cfg, data = pair
    path = tmp_path / "x.weights"
    path.write_bytes(data)
    network = Network(make_plan(cfg))
    try:
        network.load_weights(path, allow_partial=allow_partial)
    except DarkpyError as error:
        assert str(path) in str(error)
        assert all(tensor.is_meta for tensor in network.state_dict().values())


# what would take a careless reader long, or much memory


def sections(body: str, count: int) -> str:
    return "[net]\nwidth=32\nheight=32\nchannels=3\n" + body * count


HUGE = str(2**31 - 1)
HOSTILE = {
    "sections": sections("[dropout]\n", MAX_SECTIONS - 2),
    "too many sections": sections("[a]\n", 200_000),
    "convolutions": sections("[conv]\nfilters=3\nactivation=linear\n", MAX_SECTIONS - 2),
    "broken convolutions": sections("[conv]\nstride=0\n", MAX_SECTIONS - 2),
    "unread keys": sections("[dropout]\n" + "".join(f"probabilit{number}=1\n" for number in range(9_000)), 1),
    "one key again and again": sections("[dropout]\n" + "probability=1\n" * 60_000, 1),
    "misspelt words": sections("[conv]\nactivation=leakyleakyleakyleakyleaky\n", MAX_SECTIONS - 2),
    "a long line": sections("[conv]\nfilters=" + "1" * (MAX_SIZE - 200) + "\n", 1),
    "a long key": sections("[conv]\n" + "f" * (MAX_SIZE - 200) + "=1\n", 1),
    "a long name": sections("[" + "f" * (MAX_SIZE - 200) + "]\n", 1),
    "a long route": sections("[dropout]\n[route]\nlayers=" + "0," * 60_000 + "0\n", 1),
    "many long routes": sections("[dropout]\n[route]\nlayers=" + "0," * 6_000 + "0\n", 40),
    "routes of routes": sections("[route]\nlayers=-1,-1\n", 300),
    "long steps": sections("policy=steps\nsteps=" + "1," * 60_000 + "1\nscales=" + "1," * 60_000 + "1\n[dropout]\n", 1),
    "deep numbers": sections("[conv]\nfilters=1e" + "9" * 100_000 + "\n", 1),
    "upsamples": sections("[upsample]\nstride=2\n", 300),
    "a huge convolution": sections(f"[conv]\nfilters={HUGE}\nsize={HUGE}\npadding={HUGE}\ngroups={HUGE}\n", 1),
    "huge anchors": sections(f"[yolo]\nnum={HUGE}\nclasses={HUGE}\n", 1),
    "huge masks": sections("[yolo]\nnum=3\nmask=" + "0," * 60_000 + "0\n", 1),
    "huge regions": sections(f"[region]\nnum={HUGE}\nclasses={HUGE}\ncoords={HUGE}\n", 1),
    "huge detections": sections(f"[detection]\nnum={HUGE}\nclasses={HUGE}\nside={HUGE}\ncoords={HUGE}\n", 1),
    "huge groups": sections(f"[softmax]\ngroups={HUGE}\n[route]\nlayers=-1\ngroups={HUGE}\n", 1),
    "huge history": sections(f"[history]\nhistory_size={HUGE}\n", 1),
    "huge implicit": sections(f"[implicit]\nfilters={HUGE}\natoms={HUGE}\n", 1),
    "huge memory": sections(f"[lstm]\noutput={HUGE}\n", 1),
    "huge crop": sections(f"[crop]\ncrop_width={HUGE}\ncrop_height={HUGE}\n", 1),
    "huge local": sections(f"[local]\nfilters={HUGE}\nsize=3\npad={HUGE}\n", 1),
    "huge strides": sections(f"[conv]\nstride={HUGE}\n[maxpool]\nstride={HUGE}\nsize={HUGE}\n", 1),
    "huge blocks": sections(f"[reorg]\nstride={HUGE}\n", 1),
    "huge extra": sections(f"[reorg]\nextra={HUGE}\n", 1),
    "huge time": f"[net]\ninputs={HUGE}\nbatch={HUGE}\nsubdivisions={HUGE}\ntime_steps={HUGE}\n[rnn]\n",
    "huge image": f"[net]\nwidth={HUGE}\nheight={HUGE}\nchannels={HUGE}\n[avgpool]\n[connected]\n",
}  # fmt: skip
BOUNDED = """
import json, resource, sys, time, warnings
from pathlib import Path
from darkpy.build import make_plan
from darkpy.errors import DarkpyError
from darkpy.network import Network

warnings.simplefilter("ignore")
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
limit = 1024 * used + (512 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
seconds = {}
for cfg in Path(sys.argv[1]).iterdir():
    start = time.process_time()
    try:
        Network(make_plan(cfg))
    except DarkpyError as error:
        assert len(str(error)) < 100_000
    seconds[cfg.stem] = time.process_time() - start
print(json.dumps(seconds))
"""


def test_hostile_cfgs_take_bounded_time_and_memory(tmp_path: Path) -> None:
    for name, cfg in HOSTILE.items():
        (tmp_path / f"{name}.cfg").write_text(cfg)
    run = subprocess.run([sys.executable, "-c", BOUNDED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    seconds = json.loads(run.stdout)
    assert seconds.keys() == HOSTILE.keys()
    assert max(seconds.values()) < 20, seconds


def test_loading_reports_a_fault_of_either_file_only_in_its_own_words(tmp_path: Path) -> None:
    weights = tmp_path / "x.weights"
    weights.write_bytes(b"\0" * 20)
    with warnings.catch_warnings(), pytest.raises(DarkpyError):
        darkpy.load(CFGS[0], weights)
