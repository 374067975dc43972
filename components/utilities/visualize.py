"""Plots of an evaluation for Kubeflow's user interface: ROC curve, survival of the risk groups, metrics."""

from kfp import dsl

from mcti.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def visualize(  # noqa: D103
    key: str, evaluation: dsl.Input[dsl.Artifact], roc: dsl.Output[dsl.ClassificationMetrics],
    curves: dsl.Output[dsl.HTML], scores: dsl.Output[dsl.Markdown],
):  # fmt: skip
    from pathlib import Path

    from mcti.evaluation import kubeflow_artifacts

    roc.log_roc_curve(*kubeflow_artifacts.roc(Path(evaluation.path)))
    Path(curves.path).write_text(kubeflow_artifacts.curves(Path(evaluation.path)), encoding="utf-8")
    Path(scores.path).write_text(kubeflow_artifacts.scores(Path(evaluation.path)), encoding="utf-8")
