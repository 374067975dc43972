"""The model registry in MLflow: runs, versions, aliases, promotion gates and the ledger."""
