"""Utility tasks: they merge the outputs of parallel tasks, publish results or report the outcome of the run."""
