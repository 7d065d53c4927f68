"""Deployment of the programs: images, Compose, Kubernetes, Prometheus, Grafana, and the checks of all these."""
