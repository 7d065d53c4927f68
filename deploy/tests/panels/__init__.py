"""A test of the dashboards' panels without Grafana: a scripted history, each panel's values, and pictures of them."""
