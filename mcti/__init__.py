"""Slides, genes and follow-up in; a validated, registered, promoted survival model out."""

import sys

__version__ = "0.1.0"

if "--function_to_execute" in sys.orig_argv:
    # This process executes a component of a pipeline, which has no place for a line of its own. Begun here, the log
    # starts before the slow imports, and an error of any kind of task becomes one line.
    from mcti import task

    task.begin(task.component(sys.orig_argv))
