"""MLflow: runs, model versions, aliases, promotion and its ledger."""
