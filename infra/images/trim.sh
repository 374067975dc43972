#!/usr/bin/env bash
# Take out of an environment what no task of ours needs, and compile what they import: infra/images/trim.sh ENVIRONMENT
# Run while the image is built. What is missing afterwards shows in the imports at the end, and in tests/containers.
set -euo pipefail
bin=$1/bin
cd "$1"/lib/python3*/site-packages

# Headers, test suites, compilers of formats, conversion tools, an RPC server.
rm -rf torch/include torch/test torch/bin/test_* torch/bin/*Test torch/bin/protoc* pyarrow/include \
    pyarrow/libarrow_flight* pyarrow/_flight* pyarrow/*.pxd \
    onnxruntime/transformers onnxruntime/tools onnxruntime/quantization
find . -depth -type d -name tests -exec rm -rf {} +

# Of the two hundred services that boto3 knows we talk to one, and to those that give credentials.
find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name 'sso*' -exec rm -rf {} +

# Debugging symbols, of these libraries alone: others were patched after they were linked, and strip breaks them.
find ot lap sksurv kiwisolver fontTools -name '*.so' -exec strip --strip-debug {} +
strip --strip-unneeded torch/lib/libtorch_cpu.so

# Bytecode of what is imported, and of nothing else: the root file system is read-only, so tasks cannot make their own.
find . -depth -type d -name __pycache__ -exec rm -rf {} +
cd /
_KFP_RUNTIME=true "$bin/python3" - <<'PYTHON'
import importlib
import boto3
for name in (
    "cv2", "great_expectations", "h5py", "imagecodecs", "jinja2", "kfp.dsl.executor_main", "lap", "matplotlib.pyplot",
    "mlflow.pyfunc", "mlflow.artifacts", "mlflow.tracking", "onnxruntime", "openslide", "optuna.importance", "ot", "ot.batch",
    "pandas", "pyarrow.parquet", "psutil", "psycopg", "rich.progress", "safetensors.torch", "sklearn.cluster",
    "sklearn.decomposition", "sklearn.linear_model", "sksurv.ensemble", "sksurv.linear_model", "sksurv.metrics",
    "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "tifffile", "torch.distributed", "torch.optim", "typer.main", "yaml",
):
    importlib.import_module(name)
boto3.Session().client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
PYTHON
