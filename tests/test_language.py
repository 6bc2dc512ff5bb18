"""The language of the code: plain technical English in the field's words, one word for one thing."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "darkpy"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tools").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md")), *sorted((ROOT / "tests").rglob("*.md"))]

OPENINGS = re.compile(r"(What|Whether|Where|How|Of|Those|Who|Whose|Whom|That|Which)\b")
"""A docstring says what a thing is or does, with a noun phrase or a verb."""

WORDS = {  # to be avoided: the word to use
    r"pictures?(?!/)": "image",  # `pictures/` is a folder of data sets that are written
    r"photographs?": "image",
    r"quicken\w*": "lower",
    r"(is|are) no (longer )?numbers?": "NaN, non-finite",
    r"numbers? that (is|are) none": "NaN, non-finite",
    r"(somebody|nobody|whoever)": "the caller, the user, or the passive voice",
    r"whose darknet": "dialect",
    r"surer": "above the threshold",
    r"omens?": "symptom",
    r"muzzle": "suppress",
    r"autopsy": "root cause",
    r"(is|are|was|were) told": "reported, printed, warned about",
    r"networks? of characters": "character-level network",
    r"layers? with a (memory|state)": "recurrent layer",
    r"(less|fewer) is (faster|better)": "lower is faster",
    r"cure[sd]?": "fix",
    r"for ever": "forever",
    r"all the same": "still, anyway",
}
_WORDS = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
WORDS_THAT_ARE_DATA = {
    "darkpy/data/formats/darknet_writer.py": "the folder `pictures` of data sets that are written",
    "darkpy/cli/commands/anchors.py": "the option --picture",
    "darkpy/cli/commands/dataset_import.py": "the folder `pictures` of data sets that are written",
}

MAX_SINGLE_USE = 6  # private functions with one call, for each 1,000 lines; entries of tables are not called by name
ONE_WORD_CONSTANTS = {
    # registers and identities, whose one word is the whole name of the thing
    "ZERO",
    "ONE",
    # the two dialects in declarations of keys
    "_AX",
    "_PJ",
}
BASENAMES_TWICE = {
    "anchors.py": "a command, its checks, and the layers that have them",
    "coco.py": "evaluation's numbers and data/formats' files",
    "compare.py": "a command and its engine",
    "convert.py": "a command and its engine",
    "delta.py": "one for each head in a folder",
    "detect.py": "a command and its engine",
    "doctor.py": "a command and its engine",
    "images.py": "data/loading, diagnostics/checks and cli",
    "weight_stats.py": "commands and their engine",
    "weight_tools.py": "commands and their engine",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the docstrings of a module, of its classes, functions and constants."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for index, statement in enumerate(node.body):
                is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                if is_text and isinstance(statement.value.value, str):  # type: ignore[attr-defined]
                    follows_constant = index and isinstance(node.body[index - 1], ast.Assign | ast.AnnAssign)
                    if index == 0 or follows_constant:
                        yield statement.lineno, statement.value.value.strip()  # type: ignore[attr-defined]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of comments and strings."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            for offset, line in enumerate(token.string.split("\n")):
                yield token.start[0] + offset, line


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_docstring_opens_with_a_verb_or_a_noun(path: Path) -> None:
    assert [(line, text.split("\n")[0]) for line, text in docstrings(path) if OPENINGS.match(text)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_words_are_those_of_the_field(path: Path) -> None:
    if name(path) not in WORDS_THAT_ARE_DATA:
        assert [(line, match[0]) for line, text in texts(path) if (match := _WORDS.search(text))] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_words_of_the_documentation_are_those_of_the_field(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").split("\n"), start=1)
    prose = [(number, re.sub(r"`[^`]*`", "", line)) for number, line in lines]
    assert [(number, match[0]) for number, line in prose if (match := _WORDS.search(line))] == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_constant_carries_its_subject(path: Path) -> None:
    names = [
        (node.lineno, target.id)
        for node in tree(path).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    one_word = [item for item in names if re.fullmatch(r"_?[A-Z]{2,}", item[1])]  # a single letter is a type variable
    assert [item for item in one_word if item[1] not in ONE_WORD_CONSTANTS] == []


def test_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name(path))
    assert {item: where for item, where in places.items() if len(where) > 1} == {}


def test_file_names_are_unique() -> None:
    counts = Counter(path.name for path in MODULES if path.name not in ("__init__.py", "__main__.py"))
    assert {item for item, count in counts.items() if count > 1} <= BASENAMES_TWICE.keys()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_keyword_arguments_have_types(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.kwarg is not None:
            annotation = node.args.kwarg.annotation
            is_any = annotation is None or ast.unparse(annotation) == "Any"
            assert not is_any or node.name == "show", f"line {node.lineno}"  # a warnings.showwarning


def test_few_private_functions_are_called_once() -> None:
    single, lines = [], 0
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        lines += len(text.splitlines())
        nodes = list(ast.walk(tree(path)))
        called = Counter(ast.unparse(node.func).rpartition(".")[2] for node in nodes if isinstance(node, ast.Call))
        for node in nodes:
            is_private = isinstance(node, ast.FunctionDef) and re.match(r"_[^_]", node.name) and not node.decorator_list
            if is_private and called[node.name] == 1 and len(re.findall(rf"\b{node.name}\b", text)) == 2:  # type: ignore[attr-defined]
                single.append(f"{name(path)}:{node.name}")  # type: ignore[attr-defined]
    assert len(single) <= MAX_SINGLE_USE * lines / 1000, single


def module_level_imports(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run when a module is imported."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from module_level_imports([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from module_level_imports(node.body)


def test_imports_have_no_cycle() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        targets = graph.setdefault(module, set())
        for node in module_level_imports(tree(path).body):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif node.module:
                targets |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        targets &= modules.keys() - {module, "darkpy"}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
