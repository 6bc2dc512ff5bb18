"""Rules of the house, checked on the syntax tree of every file."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "darkpy"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tools").rglob("*.py"))]

BOTTOM = {"deprecation", "errors", "finding", "shapes", "dialect", "version"}
ON_BOTTOM = BOTTOM | {"files", "process", "distributed", "config", "ops"}
GRAPH = ON_BOTTOM | {"layers", "build", "weightfile", "network"}
ARROWS: dict[str, set[str]] = {  # what each part of the package may import besides itself
    "finding": set(),
    "version": set(),
    "errors": {"finding"},
    "shapes": set(),
    "dialect": set(),
    "process": set(),
    "startup": set(),
    "distributed": BOTTOM,
    "torchless": set(),
    "deprecation": set(),
    "files": BOTTOM,
    "catalog": BOTTOM | {"files"},
    "download": BOTTOM | {"files", "catalog"},
    "config": BOTTOM | {"files", "ops"},  # for the words that ops gives a meaning to
    "ops": BOTTOM | {"files", "distributed"},
    "layers": ON_BOTTOM,
    "build": ON_BOTTOM | {"layers"},
    "weightfile": ON_BOTTOM | {"layers", "build"},
    "network": ON_BOTTOM | {"layers", "build", "weightfile"},
    "summary": GRAPH,
    "data": GRAPH | {"catalog"},
    "anchors": GRAPH | {"data"},
    "sources": ON_BOTTOM | {"data"},
    "evaluation": GRAPH | {"data", "sources"},
    "detection_run": GRAPH | {"catalog", "data", "sources", "evaluation"},
    "custom_cfg": GRAPH | {"data", "anchors", "catalog"},
    "export": GRAPH | {"evaluation"},
    "inference": GRAPH | {"export"},
    "training": GRAPH | {"data", "evaluation"},
    "sequences": GRAPH | {"training"},
    "diagnostics": GRAPH | {"data", "anchors", "evaluation", "training"},
    "evaluation_run": GRAPH | {"data", "evaluation", "detection_run", "training", "diagnostics"},
    "serving": GRAPH | {"data", "sources", "evaluation", "diagnostics", "training_session"},
    "training_session": GRAPH | {"data", "evaluation", "training", "diagnostics"},
    "training_run": GRAPH | {"catalog", "data", "evaluation", "training", "diagnostics", "training_session"},
}
TOP = {"cli", "__main__", "__init__"}  # may import everything; nobody below imports them

# longer than a screen or two, and why
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {
    "training_run.py:train": "half of it are its arguments, each with its explanation",
}
# registries keyed by layer class: they import rooms for their classes
REGISTRIES_BY_LAYER_CLASS = {"inference/lowering.py", "inference/lowering_int8.py"}
# outside the rooms and the registries a layer is asked for what it can do, never for what it is
ROOMS_KNOWN_BY_NAME = {
    "evaluation/compare.py": {
        "maxpool": "explains where an AVX build of AlexeyAB's program computes [maxpool] wrongly"
    },
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    return path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT).as_posix()


def part(path: Path) -> str:
    """The place of a module in the table of arrows."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Modules that a file imports, in functions and for the type checker too, with the names it takes from them."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), [alias.name for alias in node.names]


def own_imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """What a file imports of the package itself, as `layers.base`; `from darkpy import build` counts as `build`."""
    for module, names in imports(path):
        first, _, rest = module.partition(".")
        assert first, f"{name(path)} imports relative to itself, which hides where its arrows point"
        if first == "darkpy" and rest:
            yield rest, names
        elif first == "darkpy":
            yield from ((item, []) for item in names or ["__init__"])


def calls(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every function that is called by its plain name, or by one with a single dot."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            yield node.lineno, f"{owner.id if isinstance(owner, ast.Name) else ''}.{node.func.attr}"


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_room(path: Path) -> bool:
    """Whether a file registers a section."""
    decorators = (
        decorator
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
    )
    return any(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "section"
        for call in decorators
    )


ROOMS = {path.relative_to(PACKAGE / "layers").parts[0].removesuffix(".py") for path in MODULES if is_room(path)}


def imported_rooms(path: Path) -> Iterator[tuple[str, list[str]]]:
    for module, names in own_imports(path):
        first, _, rest = module.partition(".")
        rooms = [rest.partition(".")[0]] if rest else names
        if first == "layers":
            yield from ((room, names) for room in rooms if room in ROOMS)


def test_rooms_are_found() -> None:
    assert {"convolutional", "yolo", "cost"} <= ROOMS
    assert not {"base", "head", "anchors"} & ROOMS


def test_every_module_has_a_place_in_the_table_of_arrows() -> None:
    assert {part(path) for path in MODULES} <= ARROWS.keys() | TOP


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_down(path: Path) -> None:
    place = part(path)
    if place in TOP:
        return
    targets = {module.partition(".")[0] for module, _ in own_imports(path)}
    assert targets <= ARROWS[place] | {place}


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) == "layers"], ids=name)
def test_room_imports_no_other_room_but_the_specs_it_is_made_of(path: Path) -> None:
    own = path.relative_to(PACKAGE / "layers").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for room, names in imported_rooms(path):
        assert room == own or (names and all(item.endswith("Spec") for item in names)), f"imports {names} of {room}"


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) != "layers"], ids=name)
def test_nothing_outside_the_rooms_asks_what_a_layer_is(path: Path) -> None:
    if name(path) in REGISTRIES_BY_LAYER_CLASS:
        return
    assert {room for room, _ in imported_rooms(path)} <= ROOMS_KNOWN_BY_NAME.get(name(path), {}).keys()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            types = [side for side in sides if isinstance(side, ast.Attribute) and side.attr == "type"]
            words = [side for side in sides if isinstance(side, ast.Constant) and side.value in ROOMS]
            assert not (types and words), f"line {node.lineno} compares a layer's type"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_click_is_only_for_the_command_line(path: Path) -> None:
    uses_click = any(module.partition(".")[0] == "click" for module, _ in imports(path))
    assert not uses_click or part(path) in {"cli", "__main__"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_the_command_line_prints(path: Path) -> None:
    if part(path) in {"cli", "__main__"}:
        return
    assert [line for line, called in calls(path) if called == "print"] == []
    streams = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in {"stdout", "stderr"} and ast.unparse(node.value) == "sys"
    ]
    assert streams == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_exception_is_caught_without_a_name_or_swallowed(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno} is a bare except"
            assert not all(isinstance(step, ast.Pass) for step in node.body), f"line {node.lineno} swallows"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_from_outside_is_run_as_code(path: Path) -> None:
    forbidden = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
    assert [(line, called) for line, called in calls(path) if called in forbidden] == []
    modules = {module.partition(".")[0] for module, _ in imports(path)}
    assert not modules & {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_torch_load_reads_arrays_only(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = [
                word.arg for word in node.keywords if word.arg == "weights_only" and ast.unparse(word.value) == "True"
            ]
            assert safe, f"line {node.lineno} would unpickle anything"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_file_and_its_functions_are_of_a_size_to_be_read(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 500 or name(path) in LONG_FILES, f"{lines} lines"
    for function in functions(path):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        place = f"{name(path)}:{function.name}"
        assert length <= 80 or place in LONG_FUNCTIONS, f"{function.name} has {length} lines"


def test_no_exception_to_the_sizes_is_kept_beyond_its_need() -> None:
    places = {f"{name(path)}:{function.name}" for path in SOURCES for function in functions(path)}
    assert LONG_FUNCTIONS.keys() <= places
    assert LONG_FILES.keys() <= {name(path) for path in SOURCES}
    assert ROOMS_KNOWN_BY_NAME.keys() | REGISTRIES_BY_LAYER_CLASS <= {name(path) for path in SOURCES}


def test_no_file_is_a_drawer() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "misc"}
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py")]
    assert [name(path) for path in files if drawers & set(path.with_suffix("").parts[len(ROOT.parts) :])] == []


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=name)
def test_annotations_are_not_evaluated(path: Path) -> None:
    assert not list(functions(path)) or ("__future__", ["annotations"]) in imports(path)


def test_package_of_specs_imports_every_room() -> None:
    imported = {item for module, names in own_imports(PACKAGE / "layers/__init__.py") for item in names}
    assert imported == ROOMS


def test_setup_lists_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert listed == sorted(packages | {"darkpy.zoo"}), "add the package to setup.cfg"
