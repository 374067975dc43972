"""The steps of the pipeline: functions from input paths to output paths, one module or package per step."""
