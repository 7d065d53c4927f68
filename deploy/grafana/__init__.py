"""Grafana's dashboards: `dashboards.py` writes them, `builders/` holds what is in them."""
