"""KFP components: one shim a step, which carries arguments and nothing else (docs/kubeflow.md).

`key` stands for all that a task's inputs follow from: KFP's cache compares it, the step has no use for it.
Settings come as JSON text, since KFP's own mappings turn 10 into 10.0. The image of a run is set by
`pipelines.resources`; the one named here only completes the definition.
"""

from mcti.params import ClusterParams

IMAGE = ClusterParams().image
