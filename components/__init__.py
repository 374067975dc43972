"""KFP components: one function per step that passes arguments to the step and returns its results (docs/kubeflow.md).

`key` is a hash of everything that the inputs of a task depend on: KFP's cache compares it, the step does not read it.
Settings are JSON text, since KFP's own mappings turn 10 into 10.0. `mcti.pipelines.resources` sets the image of a run;
the image named here only completes the definition.
"""

from mcti.params import ClusterParams

IMAGE = ClusterParams().image
