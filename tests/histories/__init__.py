"""Concurrent histories of promotions under faults, and their check (docs/registry.md, Fault histories)."""
