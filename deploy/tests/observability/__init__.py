"""Checks of rules, alerts and dashboards; `live.py` runs them on real processes."""
