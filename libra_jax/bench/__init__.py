"""Suites, scores, intervals and the report of a measured judge."""
