"""Checks that need a container engine, and of docker-compose.yml, which does not."""
