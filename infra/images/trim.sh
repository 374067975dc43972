#!/usr/bin/env bash
# Remove from an environment the files that no task needs, and compile the imported modules: infra/images/trim.sh ENVIRONMENT
# Run during the build of the image. The checks at the end and tests/containers detect a missing file.
set -euo pipefail
bin=$1/bin
cd "$1"/lib/python3*/site-packages

# Tests, model test data (onnx), conversion tools, an RPC server (pyarrow), the C library of onnxruntime: its Python
# module contains the code and does not load that file.
rm -rf torch/test torch/bin/test_* torch/bin/*Test torch/bin/protoc* torch/lib/lib*test.so \
    pyarrow/*flight* pyarrow/_pyarrow_cpp_tests* pyarrow/src \
    onnx/backend/test onnxruntime/transformers onnxruntime/tools onnxruntime/quantization onnxruntime/capi/libonnxruntime.so*
find . -depth -type d -name tests -exec rm -rf {} +

# Files for compilers and type checkers; web pages and forms of Great Expectations, of which mcti uses the results only.
find . -depth -type d -name include -not -path '*.dist-info/*' -exec rm -rf {} +
find . -type f -not -path '*.dist-info/*' \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.[cha]' -o -name '*.hpp' -o -name '*.cpp' \) -delete
rm -rf great_expectations/render/view/static great_expectations/datasource/fluent/schemas matplotlib/mpl-data/sample_data

# Compilers of torch.compile, which mcti does not use: the optimizers import torch._dynamo, but none of these.
rm -rf torch/_inductor/{codegen,kernel,fx_passes}

# A wheel keeps three copies where the library has two links.
for copy in pyarrow/libarrow_python*.so.*.*.*; do
    ln -sf "$(basename "$copy")" "${copy%.*.*}"
    ln -sf "$(basename "$copy")" "${copy%.*.*.*}"
done

# boto3 contains two hundred services; mcti uses S3 and those that issue credentials.
find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name 'sso*' -exec rm -rf {} +

# mcti uses the image codecs of slides and heatmaps, of about fifty: LZW, PackBits, deflate, Zstandard, JPEG, JPEG 2000. Pillow reads no AVIF.
find imagecodecs -name '_*.abi3.so' | grep -vE '/_(shared|shared_cython|imcd|zlib|deflate|zstd|jpeg8|jpeg2k)\.abi3\.so$' | xargs rm
rm PIL/_avif.*

unused_libraries() {  # $1: folder of libraries; the rest: files that load them
    "$bin/python3" - "$@" <<'PYTHON'
import re
import subprocess
import sys
from pathlib import Path

folder, users = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
wanted, files = set(), [file for user in users for file in user.rglob("*.so*")]
while files:
    output = subprocess.run(["readelf", "-d", files.pop()], capture_output=True, text=True, check=True).stdout
    new = set(re.findall(r"NEEDED.*\[(.*)\]", output)) - wanted
    wanted |= new
    files += [folder / name for name in new if (folder / name).exists()]
for library in folder.iterdir():
    if library.name not in wanted:
        library.unlink()
PYTHON
}
unused_libraries imagecodecs.libs imagecodecs
unused_libraries pillow.libs PIL

# Symbols that only a debugger or a linker reads. In some libraries a tool moved parts after the linking: strip
# would move them off a page boundary, where the loader refuses them. These are not changed.
export LC_ALL=C
strip_one() {
    strip --strip-unneeded -o "$1.stripped" "$1"
    if readelf -lW "$1.stripped" | awk '$1 == "LOAD" && substr($2, length($2) - 2) != substr($3, length($3) - 2) {exit 1}'; then
        chmod --reference="$1" "$1.stripped" && mv "$1.stripped" "$1"
    else
        rm "$1.stripped"
    fi
}
export -f strip_one
# CUDA's own libraries come without symbols.
find . -name '*.so*' -type f -size +100k -not -path './nvidia/*' -not -path './triton/*' -print0 | xargs -0 -P 2 -n 40 bash -euc 'for file; do strip_one "$file"; done' -

# Bytecode of the imported modules only: the root file system is read-only, so tasks cannot write it.
find . -depth -type d -name __pycache__ -exec rm -rf {} +
cd /
_KFP_RUNTIME=true "$bin/python3" - <<'PYTHON'
import importlib
import io
import boto3
for name in (
    "cryptography.x509.verification", "cv2", "defusedxml.ElementTree", "great_expectations", "h5py", "imagecodecs", "jinja2", "kfp.dsl.executor_main", "lap", "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg", "matplotlib.pyplot", "mlflow.pyfunc", "mlflow.pyfunc.scoring_server", "mlflow.artifacts",
    "mlflow.tracking", "onnx.helper", "onnx.numpy_helper", "onnxruntime", "openslide", "optuna.importance", "ot", "ot.batch", "pandas",
    "prometheus_client", "prometheus_client.core", "pyarrow.dataset", "pyarrow.parquet", "PIL.ImageDraw", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.TiffImagePlugin", "psutil",
    "psycopg", "pydantic.dataclasses", "pydicom", "pydicom.encaps", "requests", "rich.progress", "safetensors.torch", "scipy.stats", "simplejpeg", "sklearn.cluster", "sklearn.decomposition",
    "sklearn.linear_model", "sksurv.compare", "sksurv.datasets", "sksurv.ensemble", "sksurv.linear_model", "sksurv.metrics",
    "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "tifffile", "torch.distributed", "torch.optim",
    "torch.utils.checkpoint", "torch.utils.flop_counter", "typer.main", "uvicorn", "uvicorn.loops.auto", "uvicorn.protocols.http.auto", "yaml",
):
    importlib.import_module(name)
boto3.Session().client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")

# Libraries that import further modules at their first use: an optimizer (a thousand modules), a study, a figure, a codec.
import imagecodecs, optuna, torch
from matplotlib.figure import Figure
weight = torch.nn.Linear(2, 1)
optimizer = torch.optim.AdamW(weight.parameters())
weight(torch.ones(1, 2)).sum().backward()
optimizer.step()
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(storage="sqlite://", sampler=optuna.samplers.TPESampler(n_startup_trials=1), pruner=optuna.pruners.WilcoxonPruner())
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
figure = Figure()
figure.add_subplot().plot([1, 2], label="x")
for form in ("png", "svg", "pdf"):
    figure.savefig(io.BytesIO(), format=form)
for codec in ("lzw", "packbits", "zlib", "deflate", "zstd", "jpeg8", "jpeg2k"):
    getattr(imagecodecs, f"{codec}_decode")
    assert getattr(imagecodecs, codec.upper()).available, codec

# Every stripped library can be loaded with its dependencies. Those in folders *.libs are loaded with their modules.
import ctypes, os, sys, sysconfig
from pathlib import Path
site, broken = Path(sysconfig.get_path("purelib")), 0
for library in sorted(site.rglob("*.so*")):
    if library.parent.suffix == ".libs" or library.is_symlink() or library.stat().st_size < 50_000:
        continue
    if library.relative_to(site).parts[0] in ("nvidia", "triton"):
        continue  # not stripped
    child = os.fork()
    if child == 0:
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            if "libcuda.so" not in str(error):  # the driver belongs to the machine, not to the image
                print(error, file=sys.stderr, flush=True)
                os._exit(1)
        os._exit(0)
    broken += os.waitpid(child, 0)[1] != 0
sys.exit(f"{broken} libraries cannot be loaded" if broken else 0)
PYTHON
