"""The step search: training settings chosen over inner folds."""
