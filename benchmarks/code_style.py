"""The style of the code in figures: lengths, complexity, docstrings, names, language, duplicates, branch coverage.

Run    python -m benchmarks.code_style [--rev REV ...] [--coverage FILE]    the table, one column per revision
       python -m benchmarks.code_style --names [PATH ...] [--rule RULE ...]  each violation as file:line: rule: text
Reads  the working tree, or `git archive REV`; docs/vocabulary.yaml of the working tree, for every revision
       FILE: the JSON report of coverage.py (`make coverage` writes build/coverage.json)

How it counts:
* Functions and files of mcti, components, pipelines, benchmarks and infra; tests have their own row.
* The length of a function is its number of lines without its docstring.
* Complexity and number of arguments are those of ruff (C901, PLR0913).
* A docstring must state shape or unit where the signature has arrays, tables or real numbers, and `Raises` where the
  body raises. The share is that of the public functions of mcti with such a duty that fulfil it entirely.
* Duplicates are functions whose syntax trees are equal once names and constants are replaced.
"""

import argparse
import ast
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import code_language
from benchmarks.code_language import ROOT, Violation, Vocabulary

PACKAGES = ("mcti", "components", "pipelines", "benchmarks", "infra")
FUNCTION_LIMIT, FILE_LIMIT, COMPLEXITY_LIMIT, ARGUMENT_LIMIT = 50, 400, 10, 8
DUPLICATE_NODES = 40  # nodes of a syntax tree; below, equal trees are idioms
INTERFACES = ("mcti/cli/", "components/", "pipelines/")  # their signatures are the interface of a command or task

ARRAY = re.compile(r"\b(float|Tensor|ndarray|NDArray|ArrayLike|DataFrame|Series|Floats?|Ints?|Matrix|Vector)\b")
SIZE = r"[\w*+'./-]{1,14}"
SHAPE = re.compile(rf"\({SIZE}(?:,|(?:, ?(?:{SIZE}|…))+)\)|\bshape\b|\bscalar\b|one (?:row|column|value|entry) per")
UNIT = re.compile(
    r"\b(months?|days?|years?|pixels?|px|µm|mpp|seconds?|minutes?|ms|bytes|[MG]i?B|unit|no unit|logits?|probabilit\w+|"
    r"per cent|%|share|columns?|rows?|index(ed)?|boolean|between 0 and 1|\[0, 1\])\b|%",
    re.IGNORECASE,
)
RAISES = re.compile(r"^\s*Raises\b(?!:)", re.MULTILINE)


@dataclass(frozen=True)
class Function:
    """One function or method of one file."""

    file: str
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    public: bool

    @cached_property
    def docstring(self) -> str:
        """The docstring, empty where there is none."""
        return ast.get_docstring(self.node) or ""

    @cached_property
    def length(self) -> int:
        """Lines without those of the docstring."""
        first = self.node.body[0]
        return _lines(self.node) - (_lines(first) if self.docstring else 0)

    @cached_property
    def raises(self) -> bool:
        """Whether the body itself raises an error of the user, not of the programmer."""
        return any(_names_error(node) for node in _body_nodes(self.node) if isinstance(node, ast.Raise))

    @cached_property
    def has_arrays(self) -> bool:
        """Whether the annotations name an array, a tensor or a table."""
        arguments = [*self.node.args.posonlyargs, *self.node.args.args, *self.node.args.kwonlyargs]
        annotations = [argument.annotation for argument in arguments] + [self.node.returns]
        return any(ARRAY.search(ast.unparse(annotation)) for annotation in annotations if annotation)

    @property
    def states_shape_or_unit(self) -> bool:
        """Whether the docstring states a shape or a unit."""
        return bool(SHAPE.search(self.docstring) or UNIT.search(self.docstring))

    @property
    def states_errors(self) -> bool:
        """Whether the docstring has a line `Raises ERROR when …`."""
        return bool(RAISES.search(self.docstring))

    def violation(self, rule: str, text: str) -> Violation:
        """A violation at the first line of the function."""
        return Violation(self.file, self.node.lineno, rule, f"{self.name}: {text}")


@dataclass(frozen=True)
class Tree:
    """The files of one revision, unpacked below `root`."""

    root: Path

    @cached_property
    def files(self) -> dict[str, str]:
        """File name to its text, for all packages and the tests."""
        paths = code_language.python_files(self.root, (*PACKAGES, "tests", "docs"))
        return {path.relative_to(self.root).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    @cached_property
    def sources(self) -> dict[str, str]:
        """File name to its text, for all packages without the tests."""
        return {file: text for file, text in self.files.items() if file.startswith(tuple(f"{p}/" for p in PACKAGES))}

    @cached_property
    def functions(self) -> list[Function]:
        """Every function of `sources`."""
        return [function for file, text in self.sources.items() for function in functions(text, file)]

    @cached_property
    def language(self) -> list[Violation]:
        """Violations of docs/vocabulary.yaml, without repetitions."""
        paths = [*code_language.python_files(self.root), *code_language.documents(self.root)]
        return sorted(set(code_language.violations(self.root, Vocabulary.read(), paths)))

    def ruff(self, rule: str, option: str) -> list[dict[str, Any]]:
        """The findings of one ruff rule in the packages, under this option alone."""
        folders = [package for package in PACKAGES if (self.root / package).is_dir()]
        command = ["ruff", "check", "--isolated", "--ignore-noqa", "--exit-zero", "--output-format", "json"]
        command += ["--select", rule, "--config", option, *folders]
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=self.root, capture_output=True, text=True, check=True
        )
        findings: list[dict[str, Any]] = json.loads(done.stdout)
        return findings

    @cached_property
    def complexity(self) -> list[tuple[int, Violation]]:
        """Cyclomatic complexity of each function, as ruff counts it."""
        return self._counts("C901", "lint.mccabe.max-complexity=0")

    @cached_property
    def arguments(self) -> list[tuple[int, Violation]]:
        """Number of arguments of each function that has any, outside the interfaces."""
        counts = self._counts("PLR0913", "lint.pylint.max-args=0")
        return [(count, where) for count, where in counts if not where.file.startswith(INTERFACES)]

    def _counts(self, rule: str, option: str) -> list[tuple[int, Violation]]:
        counts = []
        for row in self.ruff(rule, option):
            count = int(re.findall(r"\((\d+) > \d+\)", str(row["message"]))[0])
            file = Path(str(row["filename"])).resolve().relative_to(self.root.resolve()).as_posix()
            counts.append((count, Violation(file, row["location"]["row"], rule, str(row["message"]).split(" > ")[0])))
        return counts


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _names_error(node: ast.Raise) -> bool:
    """A new error with a name; a bare `raise`, a variable and the errors of programmers do not count."""
    name = ast.unparse(node.exc.func) if isinstance(node.exc, ast.Call) else ""
    return bool(name) and name.rsplit(".")[-1] not in ("NotImplementedError", "AssertionError", "SystemExit", "Exit")


def _body_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions inside it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from _body_nodes(child)


def functions(source: str, file: str) -> list[Function]:
    """Every function of one file, methods and inner functions included."""
    return list(_functions(ast.parse(source), file, "", True))


def _functions(node: ast.AST, file: str, prefix: str, public: bool) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, file, f"{prefix}{child.name}.", public and not child.name.startswith("_"))
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            is_public = public and not child.name.startswith("_")
            yield Function(file, f"{prefix}{child.name}", child, is_public)
            yield from _functions(child, file, f"{prefix}{child.name}.", False)
        else:
            yield from _functions(child, file, prefix, public)


def normal_form(function: Function) -> str:
    """The syntax tree of the body with every name and constant replaced by its order of appearance."""
    body = function.node.body[1:] if function.docstring else function.node.body
    text = "\n".join(ast.dump(statement) for statement in body)
    order: dict[str, int] = {}
    fields = r"((?:id|arg|attr|name|value|kind)=)('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|-?\d[\d.e+-]*|b'[^']*')"
    return re.sub(fields, lambda match: f"{match[1]}{order.setdefault(match[2], len(order))}", text)


def duplicates(candidates: Sequence[Function]) -> list[list[Function]]:
    """Groups of functions with one normal form; short functions are left out."""
    groups: dict[str, list[Function]] = defaultdict(list)
    for function in candidates:
        if sum(1 for statement in function.node.body for _ in ast.walk(statement)) >= DUPLICATE_NODES:
            groups[normal_form(function)].append(function)
    return [group for group in groups.values() if len(group) > 1]


def duties(function: Function) -> tuple[bool, bool]:
    """Whether the docstring has a duty (arrays or errors), and whether it fulfils all of them."""
    shape = not function.has_arrays or function.states_shape_or_unit
    errors = not function.raises or function.states_errors
    return function.has_arrays or function.raises, shape and errors


def style_violations(tree: Tree) -> Iterator[Violation]:
    """Everything that the table counts, one line per place in the code."""
    yield from tree.language
    for file, text in tree.files.items():
        if (lines := text.count("\n")) > FILE_LIMIT:
            yield Violation(file, 1, "file-length", f"{lines} lines")
    for function in tree.functions:
        yield from _function_violations(function)
    for limit, counts in ((COMPLEXITY_LIMIT, tree.complexity), (ARGUMENT_LIMIT, tree.arguments)):
        yield from (where for count, where in counts if count > limit and not _is_exempt(tree, where))
    for first, *others in duplicates(tree.functions):
        for other in others:
            yield other.violation("duplicate", f"equals {first.name} of {first.file}:{first.node.lineno}")


def _is_exempt(tree: Tree, where: Violation) -> bool:
    """Whether the line has a `noqa` with a reason in parentheses; only the table counts it."""
    return re.search(r"# noqa: [A-Z0-9, ]+\(.+\)", tree.files[where.file].splitlines()[where.line - 1]) is not None


def _function_violations(function: Function) -> Iterator[Violation]:
    if function.length > FUNCTION_LIMIT:
        yield function.violation("function-length", f"{function.length} lines")
    if not (function.public and function.file.startswith("mcti/")):
        return
    if function.has_arrays and not function.states_shape_or_unit:
        yield function.violation("shape", "the docstring states neither shape nor unit")
    if function.raises and not function.states_errors:
        yield function.violation("raises", "the docstring has no line `Raises ERROR when …`")


def table(tree: Tree, coverage: Path | None = None) -> dict[str, str]:
    """The rows of the style table."""
    public = [function for function in tree.functions if function.public and function.file.startswith("mcti/")]
    lines = [text.count("\n") for text in tree.sources.values()]
    tests = [text.count("\n") for file, text in tree.files.items() if file.startswith("tests/")]
    rules = [violation.rule for violation in tree.language]
    rows = {
        "files (mcti, components, pipelines, benchmarks, infra)": f"{len(lines)}",
        "lines of code / of tests": f"{sum(lines)} / {sum(tests)}",
        f"lines per file: median, max, files over {FILE_LIMIT}": _spread(lines, FILE_LIMIT),
        "functions": f"{len(tree.functions)}",
        f"lines per function: median, max, functions over {FUNCTION_LIMIT}": _spread(
            [function.length for function in tree.functions], FUNCTION_LIMIT
        ),
        f"complexity: median, max, functions over {COMPLEXITY_LIMIT}": _spread(
            [count for count, _ in tree.complexity], COMPLEXITY_LIMIT
        ),
        f"arguments outside interfaces: median, max, over {ARGUMENT_LIMIT}": _spread(
            [count for count, _ in tree.arguments], ARGUMENT_LIMIT
        ),
        "public functions of mcti with a docstring": _share(public, lambda function: bool(function.docstring)),
        "of those with arrays or real numbers: shape or unit stated": _share(
            [function for function in public if function.has_arrays], lambda function: function.states_shape_or_unit
        ),
        "of those that raise: `Raises` stated": _share(
            [function for function in public if function.raises], lambda function: function.states_errors
        ),
        "docstrings with every shape, unit and error they owe (target 70 %)": _share(
            [function for function in public if duties(function)[0]], lambda function: duties(function)[1]
        ),
        "banned names": f"{rules.count('name')}",
        "private terms in identifiers": f"{rules.count('term')}",
        "private words in prose, messages and comments": f"{rules.count('prose')}",
        "lines of prose over 120 characters": f"{rules.count('line')}",
        "duplicate functions": f"{sum(len(group) - 1 for group in duplicates(tree.functions))}",
    }
    return rows | ({"branch coverage of mcti": _covered(coverage)} if coverage else {})


def _spread(values: Sequence[int], limit: int) -> str:
    return f"{statistics.median(values):g}, {max(values)}, {sum(value > limit for value in values)}"


def _share(chosen: Sequence[Function], passes: Callable[[Function], bool]) -> str:
    passed = sum(map(passes, chosen))
    return f"{passed} of {len(chosen)} ({100 * passed / max(len(chosen), 1):.0f} %)"


def _covered(report: Path) -> str:
    totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    return f"{totals['covered_branches']} of {totals['num_branches']} ({totals['percent_branches_covered']:.1f} %)"


@contextmanager
def unpacked(revision: str) -> Iterator[Path]:
    """A temporary folder with the files of one git revision."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def print_table(revisions: Sequence[str], coverage: Path | None) -> None:
    """The table as Markdown, one column per revision; the last column is the working tree."""
    columns = {}
    for revision in revisions:
        with unpacked(revision) as root:
            columns[revision] = table(Tree(root))
    columns["working tree"] = table(Tree(ROOT), coverage)
    print("| |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name in columns["working tree"]:
        print(f"| {name} |", " | ".join(column.get(name, "-") for column in columns.values()), "|")


def print_violations(paths: Sequence[str], rules: Sequence[str]) -> int:
    """Each violation below `paths` (default: all) of `rules` (default: all). Returns their number."""
    chosen = [
        violation
        for violation in sorted(style_violations(Tree(ROOT)))
        if (not paths or violation.file.startswith(tuple(paths))) and (not rules or violation.rule in rules)
    ]
    print(*chosen, sep="\n")
    return len(chosen)


def main() -> int:
    """Print the table, or the violations; the exit code is 1 where --names printed any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rev", nargs="*", default=[], help="git revisions, each a column before the working tree")
    parser.add_argument("--coverage", type=Path, help="JSON report of coverage.py")
    parser.add_argument("--names", nargs="*", metavar="PATH", help="list violations below these paths instead")
    parser.add_argument("--rule", nargs="*", default=[], help="with --names: only these rules")
    args = parser.parse_args()
    if args.names is not None:
        return int(print_violations(args.names, args.rule) > 0)
    print_table(args.rev, args.coverage)
    return 0


if __name__ == "__main__":
    sys.exit(main())
