"""The step promote: the gates between challenger and champion, rollback, approval and the ledger."""
