"""Counting cameras as the gateway runs them: their processes, intervals told once, acceptance tests, drift."""
