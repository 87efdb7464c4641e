"""Steering with evidence: asked and achieved, calibration, dose and response."""
