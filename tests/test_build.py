"""Plans of cfgs: the graph, its errors, and the detection of the dialect."""

from __future__ import annotations

import warnings
from dataclasses import FrozenInstanceError

import pytest

import darkpy
from darkpy.build import RELATIVE_SECTIONS, Plan, detect_dialect, make_plan
from darkpy.config.edit import apply_remedy
from darkpy.config.text import MAX_SECTIONS, deduplicate, parse
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, DarkpyError, DarkpyWarning
from darkpy.finding import Severity
from darkpy.shapes import Shape

AX, PJ = Dialect.ALEXEYAB, Dialect.PJREDDIE
NET = "[net]\nwidth=32\nheight=16\nchannels=3\n"
CONV = "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nbatch_normalize=1\nactivation=leaky\n"


def plan(layers: str, dialect: Dialect | None = None) -> Plan:
    return make_plan(NET + layers, dialect)


def faults(layers: str, dialect: Dialect | None = None, *, strict: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        make_plan(parse(NET + layers, "x.cfg"), dialect, strict=strict)
    return [str(finding) for finding in caught.value.findings]


# the graph


def test_node_has_type_sources_shape_weights_and_operations() -> None:
    first, second, third = plan(CONV + "[route]\nlayers=-1,0\n[avgpool]\n").nodes
    assert (first.type, second.type, third.type) == ("convolutional", "route", "avgpool")
    assert (first.sources, second.sources, third.sources) == ((-1,), (0, 0), (1,))
    assert (first.shape, second.shape, third.shape) == (Shape(8, 8, 16), Shape(16, 8, 16), Shape(16, 1, 1))
    assert first.inputs == (Shape(3, 16, 32),)
    assert first.parameter_count == 8 * 4 + 8 * 3 * 9
    assert first.bflops == pytest.approx(2 * 8 * 3 * 9 * 8 * 16 / 1e9)
    assert (first.index, first.section.line) == (0, 5)


def test_plan_sums_up_its_layers() -> None:
    made = plan(CONV + CONV)
    assert made.parameter_count == sum(node.parameter_count for node in made.nodes) == 8 * 4 * 2 + 8 * 3 * 9 + 8 * 8 * 9
    assert made.bflops == pytest.approx(sum(node.bflops for node in made.nodes))
    assert made.input_shape == Shape(3, 16, 32)
    assert made.place(1) == "layer 1 [convolutional] <cfg>:12"


def test_section_alias_gives_the_same_layer() -> None:
    assert plan("[conv]\n").nodes[0].spec == plan("[convolutional]\n").nodes[0].spec


def test_plan_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        plan(CONV).nodes[0].shape = Shape(1, 1, 1)  # type: ignore[misc]


def test_same_config_planned_twice_gives_the_same_warnings() -> None:
    config = parse(NET + "[dropout]\nprobabilty=.5\n")
    assert make_plan(config).warnings == make_plan(config).warnings
    assert len(make_plan(config).warnings) == 1


# faults


def test_every_fault_of_a_file_is_raised_together_errors_first() -> None:
    text = faults(
        "policy=steps\n\n[convolutional]\nstride=0\nactivation=leakey\nfitlers=3\n"
        "[maxpol]\n[route]\nlayers=-1,7\n[route]\n[upsample]\nstride\nstride=\n"
    )
    assert text == [
        "x.cfg:1: [net] policy=steps has 0 steps and 0 scales\n  hint: give one factor in scales= for each of steps=",
        "x.cfg:8: [convolutional] layer 0 stride=0 is below 1",
        "x.cfg:9: [convolutional] layer 0 activation=leakey is not known\n  hint: did you mean leaky?",
        "x.cfg:11: [maxpol] layer 1 is not a darknet section\n  hint: did you mean maxpool?",
        "x.cfg:12: [route] layer 2 refers to layer 7, which is not before it\n"
        "  hint: negative numbers are relative to this layer, 0 to 1 are absolute",
        "x.cfg:14: [route] layer 3 has no layers=, which is required",
        "x.cfg:10: [convolutional] layer 0 unknown key 'fitlers' is ignored\n  hint: did you mean filters?",
        "x.cfg:16: [upsample] layer 4 'stride' has no '=': darknet uses its default",
        "x.cfg:17: [upsample] layer 4 'stride=' has no value; the line is ignored",
    ]


def test_layer_behind_a_broken_one_is_not_blamed_for_it() -> None:
    assert len(faults("[convolutional]\nfilters=0\n[maxpool]\nsize=2\n" + CONV + "[yolo]\n")) == 1


def test_layer_behind_a_broken_one_has_its_keys_checked() -> None:
    assert len(faults("[convolutional]\nfilters=0\n[maxpool]\nsize=x\n")) == 2


def test_layers_in_front_of_a_broken_one_are_checked_for_size() -> None:
    text = faults(CONV + "[route]\nlayers=0\n[yolo]\nclasses=80\nnum=3\n[what]\n")
    assert text[0].startswith("x.cfg:14: [yolo] layer 2 reads 8 channels, but 3 anchors")
    assert "set filters=255" in text[0]
    assert text[1].startswith("x.cfg:17: [what] layer 3")


@pytest.mark.parametrize(("layers", "wanted"), [
    ("[route]\nlayers=0\n", "refers to layer 0"),
    ("[route]\nlayers=1\n", "refers to layer 1"),
    ("[route]\nlayers=-2\n", "refers to layer -2"),
    (CONV + "[route]\nlayers=-2\n", "refers to layer -1"),
    (CONV + "[shortcut]\nfrom=-9\n", "refers to layer -8"),
    (CONV + "[shortcut]\nfrom=2147483647\n", "refers to layer 2147483647"),
    (CONV + "[convolutional]\nshare_index=1\n", "refers to layer 1"),
    ("[convolutional]\nshare_index=-1\n", "refers to layer -1"),
])  # fmt: skip
def test_reference_to_what_does_not_come_before_is_an_error(layers: str, wanted: str) -> None:
    (text,) = faults(layers)
    assert f"{wanted}, which is not before it" in text


def test_shared_arrays_must_be_of_one_size_and_kind() -> None:
    (other,) = faults("[maxpool]\n[convolutional]\nshare_index=0\n")
    assert "share_index=0 is [maxpool], not a convolutional layer" in other
    (sizes,) = faults(CONV + CONV.replace("[convolutional]", "[convolutional]\nshare_index=0"))
    assert "has arrays of 8, 8, 8, 8, 8x3x3x3; this layer has 8, 8, 8, 8, 8x8x3x3" in sizes


def test_nothing_left_of_the_image_is_an_error() -> None:
    (text,) = faults("[convolutional]\nsize=40\n")
    assert "size=40 is larger than the input, 32 x 16 x 3" in text


@pytest.mark.parametrize("layers", [
    "[convolutional]\nfilters=2147483647\nsize=2147483647\npadding=2147483647\n",
    "[connected]\noutput=2147483647\n",
    "[upsample]\nstride=2147483647\n",
    "[route]\nlayers=" + ",".join(["-1"] * 60_000) + "\n[connected]\noutput=100000\n",
])  # fmt: skip
def test_sizes_beyond_an_int_are_an_error(layers: str) -> None:
    assert "too many" in faults(layers)[0]


def test_unknown_section_fails_with_near_names() -> None:
    (text,) = faults("[Maxpool]\n")
    assert text.startswith("x.cfg:5: [Maxpool] layer 0 is not a darknet section\n  hint: did you mean maxpool or ")


def test_section_of_the_other_fork_names_the_dialect_to_use() -> None:
    assert faults("[dropout]\n[sam]\nfrom=0\n", PJ) == [
        "x.cfg:6: [sam] layer 1 is not a section of dialect pjreddie\n  hint: use --dialect alexeyab"
    ]


def test_second_net_is_an_error() -> None:
    assert faults(CONV + "[net]\n") == ["x.cfg:12: [net] layer 1 is a duplicate\n  hint: a cfg describes one network"]


@pytest.mark.parametrize(("text", "wanted"), [
    ("\n", "x.cfg: has no sections\n  hint: a cfg starts with [net]"),
    ("# nothing\n", "x.cfg: has no sections\n  hint: a cfg starts with [net]"),
    ("[convolutional]\n", "x.cfg:1: [convolutional] is the first section\n  hint: a cfg starts with [net]"),
    ("[net]\ninputs=1\n", "x.cfg:1: [net] no layers follow"),
])  # fmt: skip
def test_cfg_without_a_net_or_layers_is_an_error(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(parse(text, "x.cfg"))
    assert wanted in [str(finding) for finding in caught.value.findings]


# unread keys


def test_unread_key_warns_and_strict_makes_it_fail() -> None:
    made = plan("widht=3\n" + CONV)
    assert [(finding.severity, finding.location.line) for finding in made.warnings] == [(Severity.WARNING, 5)]
    assert faults("widht=3\n" + CONV, strict=True) == [
        "x.cfg:5: [net] unknown key 'widht' is ignored\n  hint: did you mean width?"
    ]


def test_strict_changes_nothing_for_a_clean_cfg() -> None:
    assert make_plan(NET + CONV, strict=True) == make_plan(NET + CONV)


def test_warning_of_many_layers_is_said_once_with_a_count() -> None:
    layer = "[dropout]\nprobabilty=.5\n"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = darkpy.plan(NET + layer * 30)
    assert len(made.warnings) == 30
    (said,) = caught
    assert said.category is DarkpyWarning and said.filename == __file__
    assert str(said.message) == (
        "<cfg>:6: [dropout] layer 0 unknown key 'probabilty' is ignored (29 more like it)\n"
        "  hint: did you mean probability?"
    )


def test_error_shows_repeated_warnings_once() -> None:
    assert len(faults("[dropout]\nprobabilty=.5\n" * 30 + "[what]\n")) == 2


def test_as_many_layers_as_are_allowed_are_planned_in_no_time() -> None:
    assert len(plan("[dropout]\n" * (MAX_SECTIONS - 1)).nodes) == MAX_SECTIONS - 1


def test_thousands_of_broken_layers_take_no_quadratic_time() -> None:
    (fault,) = faults("[convolutional]\nfilters=0\n" * 9_000)
    assert fault == "x.cfg:6: [convolutional] layer 0 filters=0 is below 1 (8999 more like it)"


def test_findings_that_repeat_keep_the_edits_of_all_layers() -> None:
    cfg = "[net]\ninputs=4\n" + "[connected]\nlearning_rate=-1\n" * 3
    (finding,) = deduplicate(make_plan(cfg).warnings)
    assert finding.message == "learning_rate=-1 is not a usual value: 0 to 1000 (2 more like it)"
    assert finding.hints == ("learning_rate=1 in layers 0, 1, 2",)
    assert make_plan(apply_remedy(cfg, finding.remedies[0])).warnings == ()


def test_text_of_the_error_says_what_is_an_error_and_what_a_warning() -> None:
    with pytest.raises(ConfigError) as raised:
        make_plan("[net]\ninputs=4\nbacth=1\n[connected]\noutput=0\n")
    assert [line.partition(":")[0] for line in str(raised.value).splitlines()] == ["error", "warning", "  hint"]
    with pytest.raises(ConfigError) as raised:
        make_plan("[net]\ninputs=4\n[connected]\noutput=0\n")
    assert str(raised.value) == "<cfg>:4: [connected] layer 0 output=0 is below 1"


@pytest.mark.parametrize(
    ("word", "meant"), [("yolov3", "yolo"), ("detect", "yolo"), ("global_avg_pool", "avgpool"), ("concat", "route")]
)
def test_section_of_another_program_is_reported_with_its_meaning(word: str, meant: str) -> None:
    (fault,) = faults(f"{CONV}[{word}]\n")
    assert fault.endswith(f"hint: did you mean {meant}?")


@pytest.mark.parametrize(("word", "hint"), [("SiLU", "did you mean swish?"), ("hard_swish", "one of elu")])
def test_near_name_of_an_activation_is_no_other_function(word: str, hint: str) -> None:
    (fault,) = faults(f"[convolutional]\nactivation={word}\n")
    assert f"hint: {hint}" in fault


@pytest.mark.parametrize("word", ["se", "select", "split", "real", "joint", "stage", "route_rhalf"])
def test_section_that_resembles_nothing_gets_no_near_name(word: str) -> None:
    (fault,) = faults(f"{CONV}[{word}]\n")
    assert "did you mean" not in fault
    assert ("hint: " in fault) == (word in RELATIVE_SECTIONS)


def test_dialect_is_no_hint_where_the_other_one_refuses_the_cfg_for_the_same_reason() -> None:
    text = "[convolutional]\nactivation=mish\n[deconvolutional]\n"
    for dialect in Dialect:
        assert faults(text, dialect)[0].endswith("hint: no dialect reads all of this cfg")


def test_dialect_is_no_hint_where_the_other_one_refuses_the_cfg_for_another_reason() -> None:
    """Shortcuts of two sizes are pjreddie's, mish is AlexeyAB's: none of them has both."""
    layers = "[convolutional]\nstride=2\nactivation=mish\n[maxpool]\nsize=2\nstride=2\n[shortcut]\nfrom=-2\n"
    (fault,) = faults(layers, PJ)
    assert "hint: dialect alexeyab has it, but refuses this cfg, too: x.cfg:11: [shortcut] layer 2 adds" in fault
    (fault,) = faults(layers, AX)
    assert "--dialect" not in fault


def test_dialect_is_no_hint_where_the_other_one_reads_another_network() -> None:
    text = "[deconvolutional]\n[maxpool]\nmaxpool_depth=1\n"
    (fault,) = faults(text, AX)
    assert "dialect pjreddie has it, but ignores other keys of this cfg: x.cfg:" in fault
    assert "key 'maxpool_depth' is ignored" in fault


def test_silu_everywhere_is_one_finding() -> None:
    (fault,) = faults("[convolutional]\nactivation=silu\n" * 100, PJ)
    assert fault.endswith("is only known in dialect alexeyab (99 more like it)\n  hint: use --dialect alexeyab")


# the dialect


@pytest.mark.parametrize(("layers", "dialect"), [
    ("mosaic=1\n", AX),
    ("letter_box=1\n", AX),
    ("policy=sgdr\n", AX),
    ("center=1\n", PJ),
    ("[sam]\nfrom=0\n", AX),
    ("[empty]\n", AX),
    ("[deconvolutional]\n", PJ),
    ("[iseg]\n", PJ),
    ("[convolutional]\nactivation=mish\n", AX),
    ("[convolutional]\nactivation=normalize_channels\n", AX),
    ("[convolutional]\nactivation=leaky\n", PJ),
    ("[convolutional]\ndilation=2\n", AX),
    ("[convolutional]\nnumload=2\n", PJ),
    ("[route]\nlayers=-1\ngroups=2\ngroup_id=1\n", AX),
    ("[shortcut]\nfrom=-2,-3\n", AX),
    ("[shortcut]\nfrom=-2\n", PJ),
    ("[shortcut]\nfrom=-2\nalpha=.5\n", PJ),
    ("[yolo]\nscale_x_y=1.05\n", AX),
    ("[yolo]\nnms_kind=greedynms\n", AX),
    ("[region]\nbackground=1\n", PJ),
    ("[reorg]\nextra=1\n", PJ),
    ("[gru]\ntanh=1\n", PJ),
    ("[crnn]\nhidden=4\n", AX),
    ("[crnn]\noutput_filters=4\n", PJ),
    ("[rnn]\nhidden=4\n", PJ),
    (CONV, PJ),
])  # fmt: skip
def test_dialect_is_detected_by_keys_that_only_one_fork_reads(layers: str, dialect: Dialect) -> None:
    assert detect_dialect(parse(NET + layers)) is dialect


def test_more_evidence_wins() -> None:
    both = "[convolutional]\nactivation=mish\nnumload=2\n"
    assert detect_dialect(parse(NET + both)) is PJ, "a draw is pjreddie's"
    assert detect_dialect(parse(NET + both + "[sam]\n")) is AX


def test_dialect_may_be_given_as_text() -> None:
    assert darkpy.plan(NET + CONV, "alexeyab").dialect is AX
    with pytest.raises(DarkpyError, match="unknown dialect 'darknet'\n  hint: one of pjreddie, alexeyab"):
        darkpy.plan(NET + CONV, "darknet")


# words of other programs


def test_silu_is_alexeyabs_swish() -> None:
    text = NET + CONV.replace("leaky", "silu")
    made = make_plan(text)
    assert made.dialect is AX and made.nodes[0].spec == make_plan(text.replace("silu", "swish"), AX).nodes[0].spec
    assert [finding.message for finding in made.warnings] == ["activation=silu is read as swish"]
    (error,) = faults(CONV.replace("leaky", "silu"), PJ)
    assert "activation=silu is only known in dialect alexeyab" in error


def test_yolo4_is_yolo() -> None:
    head = "[yolo4]\nclasses=3\nnum=1\nmask=0\nscale_x_y=1.05\n"
    made = make_plan(NET + CONV + head)
    assert made.dialect is AX
    assert made.nodes[1].spec == make_plan(NET + CONV + head.replace("yolo4", "yolo"), AX).nodes[1].spec


@pytest.mark.parametrize(
    "section", ["[yolo]\nclasses=3\nnum=1\nmask=0\n", "[Gaussian_yolo]\nclasses=3\nnum=1\nmask=0\n"]
)
def test_unknown_nms_kind_is_the_default_with_a_warning(section: str) -> None:
    filters = CONV.replace("filters=8", f"filters={12 if 'Gauss' in section else 8}")
    made = make_plan(NET + filters + section + "nms_kind=greedynsm\n", AX)
    assert made.nodes[1].spec == make_plan(NET + filters + section, AX).nodes[1].spec
    (finding,) = made.warnings
    assert finding.message == "nms_kind=greedynsm is not known: darknet uses default"
    assert finding.hints == ("did you mean greedynms?",)
