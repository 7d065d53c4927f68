"""Checks of the Kubernetes manifests, without a cluster."""
