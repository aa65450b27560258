"""Figures of the course: functions that take arrays or tensors and return a matplotlib
Figure."""
