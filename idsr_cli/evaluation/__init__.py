"""Evaluation: metrics, and scoring of methods on pairs."""
