"""All networks of cfg/, and all that either darknet ships if the originals are available."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import pytest

import darkpy
from darkpy.build import Plan, make_plan
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError
from darkpy.network import Network

ROOT = Path(__file__).resolve().parents[1]
CFGS = sorted((ROOT / "cfg").glob("*.cfg"))
AX, PJ = Dialect.ALEXEYAB, Dialect.PJREDDIE


def names(text: str) -> set[str]:
    return set(text.split())


# bytes of the published weight files, which begin with 20 bytes, or 16 where darknet was young
PUBLISHED = {
    "yolov1": (789_312_988, 16),
    "yolov2": (203_934_260, 16),
    "yolov2-tiny": (44_948_600, 20),
    "yolov3": (248_007_048, 20),
    "yolov3-spp": (252_209_544, 20),
    "yolov3-tiny": (35_434_956, 20),
    "yolov4": (257_717_640, 20),
    "yolov4-csp": (211_944_840, 20),
    "yolov4-tiny": (24_251_276, 20),
}
# the files that training starts from: the layers below the number in their name
BACKBONES = {
    ("darknet53", 74): 162_482_580,
    ("yolov4", 137): 170_038_676,
    ("yolov4-tiny", 29): 19_789_716,
}
ALEXEYABS = {"yolov4", "yolov4-csp", "yolov4-tiny", "yolov4x-mish", "yolov7-tiny"}

# files of one darknet that the other one cannot load, or reads differently
STRIDED_SHORTCUTS = {"resnet50", "resnet101", "resnet152", "resnext152-32x4d"}
STRIDED_SHORTCUTS_PJ = STRIDED_SHORTCUTS | {"resnet18", "resnet34", "resnext50", "resnext101-32x4d"}
UNREAD_BY_PJ = {"rnn", "rnn.train"}  # hidden=, in its own files
UNREAD_BY_AX = {"go", "go.test"}  # extra= of [reorg]
FAITHFUL_IN_PJ = names("""
    alexnet cifar cifar.test csresnext50-panet-spp darknet darknet19 darknet19_448 darknet53 darknet53_448_xnor
    densenet201 extraction extraction.conv extraction22k go.test gru jnet-conv lstm.train resnet50 resnet101 resnet152
    resnext152-32x4d strided t1.test tiny tiny-yolo tiny-yolo-voc vgg-16 vgg-conv writing yolo yolo.2.0 yolo-voc
    yolo-voc.2.0 yolo9000 yolov2 yolov2-voc yolov2-tiny yolov2-tiny-voc yolov3 yolov3-openimages yolov3-spp
    yolov3-tiny yolov3-tiny-prn yolov3-tiny_3l yolov3-tiny_obj yolov3-voc yolov3_5l yolov1/tiny-coco yolov1/tiny-yolo
    yolov1/xyolo.test yolov1/yolo yolov1/yolo-coco yolov1/yolo-small yolov1/yolo.train yolov1/yolo2
""")
# with words, sections or references of the other dialect, without which they cannot be built
FATAL_IN_PJ = names("""
    Gaussian_yolov3_BDD csdarknet53-omega cspx-p7-mish cspx-p7-mish-omega cspx-p7-mish_hp efficientnet-lite3
    efficientnet_b0 enet-coco resnet152_trident yolov4 yolov4-csp yolov4-csp-s-mish yolov4-csp-swish yolov4-csp-x-mish
    yolov4-csp-x-swish yolov4-csp-x-swish-frozen yolov4-custom yolov4-p5 yolov4-p5-frozen yolov4-p6
    yolov4-sam-mish-csp-reorg-bfm yolov4-tiny_contrastive yolov4_new yolov4x-mish yolov7 yolov7x
""")


@cache
def planned(cfg: Path, dialect: Dialect | None = None) -> Plan | ConfigError:
    try:
        return make_plan(cfg, dialect)
    except ConfigError as error:
        return error


def zoo(shared: Path, fork: Dialect) -> dict[str, Path]:
    folder = shared / "zoo" / str(fork)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.cfg"))}


def reads_otherwise(plan: Plan) -> bool:
    """True if the file has keys that only the other darknet reads."""
    return any("only dialect" in finding.message or "darknet reads" in finding.message for finding in plan.warnings)


# cfg/


@pytest.mark.parametrize("cfg", CFGS, ids=lambda path: path.stem)
def test_network_plans_as_its_forks_own(cfg: Path) -> None:
    made = planned(cfg)
    assert isinstance(made, Plan)
    assert (made.dialect is AX) == (cfg.stem in ALEXEYABS)
    assert {finding.message for finding in made.warnings} <= {"key 'hidden' is ignored: only dialect alexeyab reads it"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_are_as_many_as_in_the_published_file(name: str) -> None:
    size, header = PUBLISHED[name]
    made = planned(ROOT / f"cfg/{name}.cfg")
    assert isinstance(made, Plan) and 4 * made.parameter_count == size - header


@pytest.mark.parametrize(("name", "cutoff"), BACKBONES)
def test_backbone_is_as_long_as_the_published_file(name: str, cutoff: int) -> None:
    made = planned(ROOT / f"cfg/{name}.cfg")
    assert isinstance(made, Plan)
    assert 20 + 4 * sum(node.parameter_count for node in made.nodes[:cutoff]) == BACKBONES[name, cutoff]


@pytest.mark.parametrize(("name", "bflops"), [("yolov3-tiny", 5.571), ("yolov4-tiny", 6.910), ("yolov4", 128.459)])
def test_operations_are_the_total_that_alexeyabs_program_prints(name: str, bflops: float) -> None:
    made = planned(ROOT / f"cfg/{name}.cfg")
    assert isinstance(made, Plan) and round(made.bflops, 3) == bflops


@pytest.mark.parametrize(("name", "bflops"), [("yolov3", 140.69), ("yolov3-spp", 141.45), ("yolov2", 62.94)])
def test_operations_of_the_convolutions_are_those_that_pjreddie_quotes(name: str, bflops: float) -> None:
    made = planned(ROOT / f"cfg/{name}.cfg")
    assert isinstance(made, Plan)
    assert round(sum(node.bflops for node in made.nodes if node.type == "convolutional"), 2) == bflops


@pytest.mark.parametrize("cfg", CFGS, ids=lambda path: path.stem)
def test_network_is_built_with_a_module_a_layer(cfg: Path) -> None:
    made = planned(cfg)
    assert isinstance(made, Plan)
    assert len(Network(made).layers) == len(made.nodes)


# the originals


def test_every_original_is_there(shared: Path) -> None:
    assert (len(zoo(shared, PJ)), len(zoo(shared, AX))) == (45, 95)


def test_originals_plan_together_in_a_few_seconds(shared: Path) -> None:
    cfgs = [path for fork in Dialect for path in zoo(shared, fork).values()]
    start = time.perf_counter()
    made = [make_plan(cfg) for cfg in cfgs]
    assert time.perf_counter() - start < 20
    assert sum(len(plan.nodes) for plan in made) > 10_000


def test_original_of_pjreddie_is_detected_as_pjreddies(shared: Path) -> None:
    assert all(made.dialect is PJ for path in zoo(shared, PJ).values() if isinstance(made := planned(path), Plan))


def test_original_of_alexeyab_is_detected_if_only_that_fork_reads_all_of_it(shared: Path) -> None:
    found = {name for name, path in zoo(shared, AX).items() if getattr(planned(path), "dialect", None) is AX}
    assert found == zoo(shared, AX).keys() - FAITHFUL_IN_PJ - UNREAD_BY_PJ


@pytest.mark.parametrize(("fork", "dialect", "fatal", "otherwise"), [
    (PJ, PJ, set(), UNREAD_BY_PJ),
    (PJ, AX, STRIDED_SHORTCUTS_PJ, UNREAD_BY_AX),
    (AX, AX, STRIDED_SHORTCUTS, set()),
    (AX, PJ, FATAL_IN_PJ, None),
])  # fmt: skip
def test_original_loads_in_each_dialect_as_it_does_in_that_program(
    shared: Path, fork: Dialect, dialect: Dialect, fatal: set[str], otherwise: set[str] | None
) -> None:
    made = {name: planned(path, dialect) for name, path in zoo(shared, fork).items()}
    assert {name for name, plan in made.items() if isinstance(plan, ConfigError)} == fatal
    unfaithful = {name for name, plan in made.items() if isinstance(plan, Plan) and reads_otherwise(plan)}
    assert unfaithful == (made.keys() - FAITHFUL_IN_PJ - fatal if otherwise is None else otherwise)


def test_reason_why_alexeyabs_fork_refuses_a_resnet_is_given(shared: Path) -> None:
    for name in STRIDED_SHORTCUTS:
        refused = planned(zoo(shared, AX)[name], AX)
        assert isinstance(refused, ConfigError)
        assert all("adds layers of one width and height only" in finding.message for finding in refused.findings)


def test_reason_why_pjreddies_fork_refuses_a_network_is_the_other_fork(shared: Path) -> None:
    for name in FATAL_IN_PJ:
        refused = planned(zoo(shared, AX)[name], PJ)
        assert isinstance(refused, ConfigError)
        assert any(finding.hints == ("use --dialect alexeyab",) for finding in refused.findings), name


@pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")
def test_real_weight_files_are_written_as_they_were_read(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "data/weights").glob("*/*.weights"))
    assert len(files) > 5
    for weights in files:
        (cfg,) = weights.parent.glob("*.cfg")
        again = tmp_path / weights.name
        darkpy.load(cfg, weights).save_weights(again)
        assert again.read_bytes() == weights.read_bytes(), weights
