"""Evaluation on recorded clicks: no broker, no click log, no bundle store."""
