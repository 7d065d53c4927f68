"""The test of REGISTRY: Compose pulls our images from a registry, and builds nothing."""

from __future__ import annotations

import subprocess

from ..waiting import Failure
from . import pasted
from .compose import inspect, our_image, run
from .watched import Cluster, until


def push(image: str, name: str) -> None:
    """Pushes an image of this machine under the name, and forgets that name."""
    run("docker", "tag", image, name)
    command = ["docker", "push", "--quiet", name]
    until(f"{name} is pushed", lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0)
    run("docker", "rmi", name)


def forget(address: str) -> None:
    """Forgets the images of the registry at this address."""
    names = run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    if pulled := [name for name in names if name.startswith(f"{address}/")]:
        run("docker", "rmi", *pulled)


def story(cluster: Cluster, registry_of_ours: str) -> None:
    """Runs the test; REGISTRY of the project is this registry, which holds our images."""
    cluster.project.environment["ACTORS"] = "2"
    pasted.paste(cluster.project, "Images from a registry")
    cluster.joined(actors=2)
    for service, target in ((cluster.learner, "learner"), (cluster.actor, "actor")):
        wanted = our_image(target, registry_of_ours)
        for container in inspect(*cluster.project.containers(service)):
            (image,) = inspect(container["Image"])
            # The engine notes where it pulled an image from. A built one has no such note.
            pulled = any(digest.partition("@")[0] == wanted.rpartition(":")[0] for digest in image["RepoDigests"])
            if container["Config"]["Image"] != wanted or not pulled:
                raise Failure(f"{service}: its image is {container['Config']['Image']}, from {image['RepoDigests']}")
        print(f"cluster: {service} runs {wanted}, pulled", flush=True)
    cluster.trains()
