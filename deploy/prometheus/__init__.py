"""The Kubernetes manifests; `rules.py` writes the one that is generated."""
