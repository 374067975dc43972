#!/bin/sh
# kfp 2.17.3: an output declared as bare `list` that is looped over gives items of type STRING. Fed to an `int`
# parameter the pipeline compiles without a warning and runs to its end under kfp.local, while the driver of the back end
# (2.17.0) refuses it: input parameter type mismatch: expect NUMBER_INTEGER, got string. Declared `List[int]` the item
# has type NUMBER_INTEGER.
# Seen: "list: item STRING, parameter NUMBER_INTEGER" / "List[int]: item NUMBER_INTEGER, parameter NUMBER_INTEGER" /
# "kfp.local: SUCCESS". Exits with 0 as long as that is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check kfp==2.17.3
cat > "$folder/loop.py" <<'PYTHON'
import sys
from typing import List

import yaml
from kfp import compiler, dsl, local


@dsl.component(install_kfp_package=False)
def bare() -> list:
    return [0, 1]


@dsl.component(install_kfp_package=False)
def typed() -> List[int]:
    return [0, 1]


@dsl.component(install_kfp_package=False)
def use(number: int):
    assert isinstance(number, int)


def types(source):
    @dsl.pipeline(name="loop")
    def loop():
        with dsl.ParallelFor(source().output) as number:
            use(number=number)

    compiler.Compiler().compile(loop, f"{sys.argv[1]}/loop.yaml")
    with open(f"{sys.argv[1]}/loop.yaml") as stream:
        components = yaml.safe_load(stream)["components"]
    inputs = components["comp-for-loop-1"]["inputDefinitions"]["parameters"]
    item = next(value for name, value in inputs.items() if name.endswith("loop-item"))
    parameter = components["comp-use"]["inputDefinitions"]["parameters"]["number"]
    return loop, item["parameterType"], parameter["parameterType"]


if __name__ == "__main__":
    loop, *found = types(bare)
    print(f"list: item {found[0]}, parameter {found[1]}")
    _, *declared = types(typed)
    print(f"List[int]: item {declared[0]}, parameter {declared[1]}")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=f"{sys.argv[1]}/runs")
    loop()
    print("kfp.local: SUCCESS")
    same = found == ["STRING", "NUMBER_INTEGER"] and declared == ["NUMBER_INTEGER", "NUMBER_INTEGER"]
    sys.exit(0 if same else 1)
PYTHON
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" "$folder/loop.py" "$folder" 2>/dev/null
