"""Violations of docs/vocabulary.yaml: names, private terms, prose and line length, as file:line.

tests/test_language.py asserts that there are none; `python -m benchmarks.code_style --names` prints them.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
CODE = ("mcti", "components", "pipelines", "benchmarks", "infra", "tests", "docs")
LINE_LIMIT = 120  # characters of one line of prose


class Violation(NamedTuple):
    """One line that breaks one rule."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.text}"


class Definition(NamedTuple):
    """An identifier that a file defines; `assigned` is False for functions, classes and imports."""

    name: str
    line: int
    assigned: bool


@dataclass(frozen=True)
class Vocabulary:
    """docs/vocabulary.yaml."""

    names: frozenset[str]
    identifiers: dict[str, str]
    allowed: dict[str, list[str]]
    prose: dict[str, str]
    exempt: tuple[str, ...]

    @classmethod
    def read(cls, path: Path = ROOT / "docs" / "vocabulary.yaml") -> "Vocabulary":
        """The vocabulary of this working tree, whatever revision it is applied to."""
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return cls(
            frozenset(data["names"]),
            data["identifiers"],
            data["allowed_identifiers"],
            data["prose"],
            tuple(data["exempt"]),
        )

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """One expression for all prose terms; the name of the matching group is `t` and the position in `prose`."""
        parts = (f"(?P<t{n}>{term})" for n, term in enumerate(self.prose))
        return re.compile(rf"(?<![\w`/.-])(?:{'|'.join(parts)})(?![\w`/]|-\w|\.\w)", re.IGNORECASE)


def python_files(root: Path, packages: Iterable[str] = CODE) -> list[Path]:
    """Every Python file of `packages` below `root`, sorted."""
    return sorted(path for package in packages for path in (root / package).rglob("*.py"))


def documents(root: Path) -> list[Path]:
    """Every Markdown page: top level, docs/ and infra/."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "infra").rglob("*.md")])


def definitions(tree: ast.AST) -> Iterator[Definition]:
    """Each identifier that the code binds: variables, parameters, attributes, functions, classes, aliases."""
    for node in ast.walk(tree):
        yield from _definitions_of(node)


def _definitions_of(node: ast.AST) -> Iterator[Definition]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield Definition(name, node.lineno, True)
        case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
            yield Definition(name, node.lineno, True)
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield Definition(name, node.lineno, True)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield Definition(name, node.lineno, False)
        case ast.alias(asname=str(name)):
            yield Definition(name, node.lineno, False)


def words(identifier: str) -> list[str]:
    """The words of a snake_case or CamelCase identifier, in lower case.

    >>> words("_ReferenceProfile2D")
    ['reference', 'profile2', 'd']
    """
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", identifier)
    return [part.lower() for part in parts]


def private_term(identifier: str, vocabulary: Vocabulary) -> str | None:
    """The first private term among the words of `identifier`, or None."""
    text = "_".join(words(identifier))
    return next((term for term in vocabulary.identifiers if f"_{term}_" in f"_{text}_"), None)


def name_violations(source: str, file: str, vocabulary: Vocabulary) -> Iterator[Violation]:
    """Banned names and private terms among the identifiers that one file defines, and in the name of the file."""
    module = Definition(Path(file).stem, 1, False)
    for name, line, assigned in [module, *definitions(ast.parse(source))]:
        if assigned and name.strip("_") in vocabulary.names:
            yield Violation(file, line, "name", f"{name}: use the name of the value")
        term = private_term(name, vocabulary)
        if term and not any(fnmatch(file, pattern) for pattern in vocabulary.allowed.get(term, ())):
            yield Violation(file, line, "term", f"{name}: {term} -> {vocabulary.identifiers[term]}")


def texts_of_code(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring, comment and string of two or more words in one file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield from enumerate(node.value.split("\n"), node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def texts_of_page(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every line of a Markdown page outside code fences."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def prose_violations(texts: Iterable[tuple[int, str]], file: str, vocabulary: Vocabulary) -> Iterator[Violation]:
    """Banned words in running text; what stands between backticks is a name, and no prose."""
    pattern, standard = vocabulary.pattern, list(vocabulary.prose.values())
    for line, text in texts:
        for match in pattern.finditer(re.sub(r"`[^`]*`", "`", text)):
            hint = standard[int(str(match.lastgroup)[1:])]
            yield Violation(file, line, "prose", f"{match.group()!r} -> {hint}")


def long_lines(text: str, file: str) -> Iterator[Violation]:
    """Lines of Markdown prose longer than 120 characters; tables, code and lines that are one link are not prose."""
    for number, line in texts_of_page(text):
        if len(line) > LINE_LIMIT and not line.lstrip().startswith(("|", "![", "<!--")) and " " in line[:LINE_LIMIT]:
            yield Violation(file, number, "line", f"{len(line)} characters")


def violations(root: Path, vocabulary: Vocabulary, paths: Iterable[Path]) -> Iterator[Violation]:
    """Every violation in Python files and Markdown pages."""
    for path in paths:
        file = path.relative_to(root).as_posix()
        if file in vocabulary.exempt:
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            yield from name_violations(text, file, vocabulary)
            yield from prose_violations(texts_of_code(text), file, vocabulary)
        else:
            yield from prose_violations(texts_of_page(text), file, vocabulary)
            yield from long_lines(text, file)
