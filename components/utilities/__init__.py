"""Tasks that are no step: they gather what parallel tasks wrote, or report how the run ended."""
