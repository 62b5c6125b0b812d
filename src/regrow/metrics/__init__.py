"""Metrics: what a sparse run explored, and what it cost."""
