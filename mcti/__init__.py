"""Survival models from whole-slide images, gene expression and follow-up: data, training, evaluation, registry."""

import sys

__version__ = "0.1.0"

if "--function_to_execute" in sys.orig_argv:
    # This process executes a component of a pipeline, whose code contains no logging. The log begins in this module, so
    # that it includes the slow imports and reports every error of a task as one line.
    from mcti import task

    task.begin(task.component(sys.orig_argv))
