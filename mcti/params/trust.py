"""Settings of the verification of signatures."""

from typing import Literal

from pydantic import Field

from mcti.params.base import Params


class TrustParams(Params):
    """What a model must prove before it is used (docs/registry.md). Signing keys are set in the environment."""

    require: Literal["none", "signature", "lineage"] = Field(
        "none",
        description="what `predict`, `serve` and `promote` require of a version: nothing; a trusted signature of its "
        "files; or also signed statements from its data to the gate decision (`promote`: to the registration)",
    )
    keys: str | None = Field(
        None, min_length=1, description="trust file: the keys that may sign; a path or an s3:// address; null: none"
    )
