"""A fake kubectl: its responses come from a file; a response that is a text is an error message."""

import json
import shlex
import stat
import sys

FAKE = """import json, sys, time
answers = json.load(open({answers!r}))
words = [word for word in sys.argv[1:] if not word.startswith("--request-timeout")]
key = " ".join(words).removesuffix(" -o json")
time.sleep(answers.get("sleep", 0))
if key == "config current-context":
    print("test")
elif isinstance(answers.get(key), str):
    sys.exit(answers[key])
elif key in answers:
    print(json.dumps(answers[key]))
else:
    sys.exit(f'Error from server (NotFound): {{key}} not found')
"""


def install(tmp_path, monkeypatch, responses):
    """Make PATH contain only the fake. Returns a function that changes responses: {command: response or None}."""
    program, answers = tmp_path / "bin" / "kubectl", tmp_path / "answers.json"
    program.parent.mkdir()
    source = tmp_path / "kubectl.py"
    source.write_text(FAKE.format(answers=str(answers)), encoding="utf-8")
    # Not in the line of the interpreter: that ends at the first space of a path.
    command = shlex.join([sys.executable, "-SE", str(source)])  # without site packages it starts faster
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))

    def respond(changed):
        tree = {key: value for key, value in {**responses, **changed}.items() if value is not None}
        answers.write_text(json.dumps(tree), encoding="utf-8")

    respond({})
    return respond
