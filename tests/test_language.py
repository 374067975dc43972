"""The language of the repository: names, private terms, prose and line length (docs/vocabulary.yaml)."""

import pytest
from typer.main import get_command

from benchmarks import code_language
from benchmarks.code_language import ROOT, Vocabulary
from mcti.cli.app import app

VOCABULARY = Vocabulary.read()

BANNED_BINDINGS = [
    "found = 1",
    "found: int = 1",
    "class A:\n    found: int",
    "self.found = 1",
    "def f(found): ...",
    "def f(*, found=1): ...",
    "def f(*found): ...",
    "def f(**found): ...",
    "lambda found: 1",
    "for found in (): ...",
    "[found for found in ()]",
    "(found := 1)",
    "with open('x') as found: ...",
    "try: ...\nexcept OSError as found: ...",
    "match 1:\n    case found: ...",
    "match 1:\n    case [*found]: ...",
    "match 1:\n    case {**found}: ...",
    "_found = 1",
    "a, (found, b) = 1, (2, 3)",
]


def rules(source, file="mcti/x.py"):
    return [violation.rule for violation in code_language.name_violations(source, file, VOCABULARY)]


def assert_none(violations):
    """Not `== []`: pytest would spend minutes on the difference of long lists."""
    lines = sorted({str(line) for line in violations})
    assert not lines, "\n".join([f"{len(lines)} violations", *lines[:100]])


@pytest.mark.parametrize("package", code_language.CODE)
def test_no_violation_in_python_files(package):
    paths = code_language.python_files(ROOT, [package])
    assert paths
    assert_none(code_language.violations(ROOT, VOCABULARY, paths))


def test_no_violation_in_documents():
    pages = code_language.documents(ROOT)
    assert ROOT / "README.md" in pages
    assert_none(code_language.violations(ROOT, VOCABULARY, pages))


def test_no_violation_in_help_texts():
    """What `mcti --help` prints, the descriptions of the options included."""
    texts = []
    commands = [("mcti", get_command(app))]
    while commands:
        name, command = commands.pop()
        texts += [(0, f"{name}: {text}") for text in (command.help or "", command.short_help or "")]
        texts += [(0, f"{name} {option.name}: {getattr(option, 'help', '') or ''}") for option in command.params]
        commands += [(f"{name} {word}", inner) for word, inner in getattr(command, "commands", {}).items()]
    assert len(texts) > 100
    assert_none(code_language.prose_violations(texts, "help", VOCABULARY))


@pytest.mark.parametrize("source", BANNED_BINDINGS)
def test_a_banned_name_is_detected_in_every_binding(source):
    assert "name" in rules(source)


@pytest.mark.parametrize("source", ["found_rows = 1", "x = found", "f(found=1)", "x.found()", "'found'"])
def test_a_use_of_a_library_name_is_no_violation(source):
    assert rules(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "def deal(x): ...",
        "class Leaver: ...",
        "class NewKnots: ...",
        "n_leavers = 1",
        "import a as rivals",
        "x.mend = 1",
    ],
)
def test_a_private_term_is_detected_as_a_word_of_an_identifier(source):
    assert "term" in rules(source)


@pytest.mark.parametrize("source", ["ideal = 1", "dealer = 1", "amended = 1", "class Roominess: ..."])
def test_a_word_that_contains_a_private_term_is_allowed(source):
    assert rules(source) == []


def test_a_private_term_is_detected_in_the_name_of_a_module():
    assert rules("", "mcti/evaluation/rivals.py") == ["term"]


@pytest.mark.parametrize(
    "text",
    [
        "the patient leaves: newcomers are dealt",
        "the model knows nothing",
        "it goes on",
        "minutes a slide",
        "He has grade 3.",
        "there is no room left",
    ],
)
def test_a_banned_word_is_detected_in_prose(text):
    assert list(code_language.prose_violations([(7, text)], "docs/x.md", VOCABULARY))


@pytest.mark.parametrize(
    "text", ["the option `--says`", "the headroom", "a great ideal", "docs/house.md", "the shared heap-dump"]
)
def test_a_name_between_backticks_or_inside_a_word_is_no_prose(text):
    assert list(code_language.prose_violations([(7, text)], "docs/x.md", VOCABULARY)) == []


def test_messages_docstrings_and_comments_are_prose():
    source = '"""It tells a story."""\nraise DataError("nobody knows", f"row {n} says so")  # by hand\n'
    lines = [
        line.text.split("'")[1]
        for line in code_language.prose_violations(code_language.texts_of_code(source), "x.py", VOCABULARY)
    ]
    assert sorted(lines) == ["by hand", "knows", "nobody", "says", "tells"]


def test_long_lines_of_prose_are_detected_and_tables_and_code_are_not():
    text = f"{'word ' * 30}\n| {'cell ' * 40} |\n```\n{'code ' * 40}\n```\n"
    assert [line.line for line in code_language.long_lines(text, "x.md")] == [1]
