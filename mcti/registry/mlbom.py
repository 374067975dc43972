"""The bill of materials of a model: CycloneDX 1.6 JSON (ECMA-424) with its model card, data sets, encoder and licences.

The packages are in the bill of materials of the software (sbom.py), to which it refers.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import mcti
from mcti.registry import metric_labels
from mcti.registry.card import GAP, gaps

FILE = "mlbom.json"
_CREATIVE_COMMONS = ("CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-SA-4.0", "CC0-1.0")
_SPDX = {*_CREATIVE_COMMONS, "Apache-2.0", "BSD-3-Clause", "GPL-3.0-only", "GPL-3.0-or-later", "MIT"}
"""Licences that are stated by their SPDX identifier; any other is stated by its name."""


def build(card: Mapping[str, Any], files: Mapping[str, str], source: str = "") -> dict[str, Any]:
    """The document of a version.

    card    of `card.build`;  files  SHA-256 of the files of the ensemble, by path
    source  MD5 of the folder of source tables and slides; "": unknown

    It has no serial number and no time: the same version gives the same document.
    """
    data = {**card["lineage"]["data"], **({"source": source} if source else {})}
    datasets = [_dataset(name, md5, card["licences"]["data"]) for name, md5 in sorted(data.items())]
    encoder, code = _encoder(card), _code(card)
    model = _model(card, [part["bom-ref"] for part in datasets])
    model["components"] = [_file(path, digest) for path, digest in files.items()]
    parts = [*datasets, *encoder, code]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model},
        "components": parts,
        "dependencies": [{"ref": model["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _model(card: Mapping[str, Any], datasets: list[str]) -> dict[str, Any]:
    digest = card["lineage"]["digest"]
    return {
        "type": "machine-learning-model",
        "bom-ref": f"urn:mcti:model:{digest}",
        "name": card["name"],
        "version": digest,
        **_licences(card["licences"]["code"]),
        "externalReferences": [{"type": "bom", "url": "sbom.json", "comment": "packages of the training environment"}],
        "modelCard": {
            "modelParameters": _parameters(card, datasets),
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(card["evaluation"]["metrics"]))},
            "considerations": _considerations(card),
            "properties": _properties(card),
        },
    }


def _parameters(card: Mapping[str, Any], datasets: list[str]) -> dict[str, Any]:
    inputs, outputs = card["inputs"], card["outputs"]
    formats = [f"expression of {inputs['genes']} genes, SHA-256 of their names {inputs['genes_sha256']}"]
    formats += [f"clinical covariates: {', '.join(inputs['covariates'])}"] if inputs["covariates"] else []
    formats.append("features of the tiles of all slides of a patient")
    months = ", ".join(f"{month:g}" for month in outputs["survival_months"])
    return {
        "approach": {"type": "supervised"},
        "task": "survival analysis",
        "architectureFamily": "multimodal network",
        "modelArchitecture": f"mcti, preset {card['architecture'].get('preset', 'unknown')}; {card['new_patients']}",
        "datasets": [{"ref": ref} for ref in datasets],
        "inputs": [{"format": text} for text in formats],
        "outputs": [{"format": f"risk ({outputs['risk']})"}, {"format": f"survival probability at {months} months"}],
    }


def _metrics(metrics: Mapping[str, Mapping[str, float | None]]) -> Iterable[dict[str, Any]]:
    """Out-of-fold metrics with their intervals; one that is not defined is left out."""
    for name, numbers in metrics.items():
        value, low, high = (numbers.get(key) for key in ("value", "low", "high"))
        if value is not None:
            known = low is not None and high is not None
            interval = {"confidenceInterval": {"lowerBound": str(low), "upperBound": str(high)}} if known else {}
            yield {"type": metric_labels.label(name), "value": str(value), **interval}


def _considerations(card: Mapping[str, Any]) -> dict[str, Any]:
    intended = {} if card["intended_use"] == GAP else {"useCases": [card["intended_use"]]}
    limits = [f"not intended: {card['not_intended']}", *([card["notice"]] if card["notice"] else [])]
    return {**intended, "technicalLimitations": limits}


def _properties(card: Mapping[str, Any]) -> list[dict[str, str]]:
    """What CycloneDX has no field for, and the gaps of the card."""
    evaluation, lineage = card["evaluation"], card["lineage"]
    known = {
        "mcti:commit": lineage["commit"],
        "mcti:image": lineage["image"],
        "mcti:folds-sha256": lineage["folds"],
        "mcti:evaluation": evaluation["method"],
        "mcti:data-contract": evaluation["data_contract"],
        **{f"mcti:{name}": str(evaluation[name]) for name in ("patients", "events") if name in evaluation},
    }
    properties = [{"name": name, "value": value} for name, value in known.items()]
    return properties + [{"name": "mcti:gap", "value": gap} for gap in gaps(card)]


def _dataset(name: str, md5: str, licence: str) -> dict[str, Any]:
    """A data set by its MD5; for a folder, that of DVC's list of its files, which ends with `.dir`."""
    hashes = [{"alg": "MD5", "content": md5.removesuffix(".dir")}]
    form = "MD5 of DVC's list of the files of the folder" if md5.endswith(".dir") else "MD5"
    return {
        "type": "data",
        "bom-ref": f"urn:mcti:data:{name}",
        "name": name,
        "version": md5,
        "hashes": hashes,
        **_licences(licence),
        "data": [{"type": "dataset", "name": name, "sensitiveData": ["pseudonymous patient data"]}],
        "properties": [{"name": "mcti:hash", "value": form}],
    }


def _encoder(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The encoder of the features; empty where the features do not name it."""
    features = card["inputs"]["features"]
    if features == GAP or not features.get("encoder"):
        return []
    weights = str(features.get("encoder_weights_sha256", ""))
    hashes = {"hashes": [{"alg": "SHA-256", "content": weights}]} if re.fullmatch("[0-9a-f]{64}", weights) else {}
    keys = ("target_mpp", "target_patch_size", "tissue_method")
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"urn:mcti:encoder:{features['encoder']}",
            "name": str(features["encoder"]),
            **hashes,
            **_licences(card["licences"]["encoder"]),
            "properties": [{"name": f"mcti:{key}", "value": str(features[key])} for key in keys if key in features],
        }
    ]


def _code(card: Mapping[str, Any]) -> dict[str, Any]:
    purl = f"pkg:pypi/mcti@{mcti.__version__}"
    component = {"type": "library", "bom-ref": purl, "name": "mcti", "version": mcti.__version__, "purl": purl}
    commit = str(card["lineage"]["commit"])
    return {**component, **_licences(card["licences"]["code"]), "pedigree": {"commits": [{"uid": commit}]}}


def _file(path: str, digest: str) -> dict[str, Any]:
    return {"type": "file", "name": path, "hashes": [{"alg": "SHA-256", "content": digest}]}


def _licences(name: str) -> dict[str, Any]:
    if name == GAP:
        return {}
    return {"licenses": [{"license": {"id": name} if name in _SPDX else {"name": name}}]}
