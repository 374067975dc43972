"""The step explain: contributions of the inputs to the risk of single patients."""
