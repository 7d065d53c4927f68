"""What runs the programs elsewhere: images, Compose, Kubernetes, Prometheus, Grafana, and the checks of all these."""
