"""Commands in the documents.

The check compares flags of our programs, make, cargo, kubectl and Compose with the real ones. It runs `config` of our
programs and compares the output that a document shows, and `config` of Compose where that is installed. It runs a
`python3 -c` beside the episodes of `hrm-learner eval --dump`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import yaml

from ..paths import REPOSITORY
from . import cluster
from .markdown import INDENTED, Document, Piece
from .settings_stated import Program
from .shell import Command, Unreadable, commands

SHELL = ("sh", "bash", "shell", "console")
# Commands that name nothing of this project.
OTHERS = {
    *("sudo", "cosign", "kind", "curl", "git", "grpcurl", "cd", "export", "grep", "pip"),
    *("docker push", "docker pull", "docker build", "docker cp"),
    *("ssh", "tensorboard", "mlflow"),
}
OURS = ("hrm-learner", "hrm-actor")
# Subcommands whose flags are settings of the configuration too.
CONFIGURED = ("train", "serve", "run", "health")
COMPOSE = ("up", "down", "logs", "build", "ps", "config", "pull", "exec")
# A word that the reader replaces.
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")
# Prefixes of inline code that is a command.
INLINE = (*OURS, "make", "cargo", "kubectl", "helm", "docker compose", "docker-compose", "python3")


@dataclass
class Checker:
    """Checks commands against the programs."""

    program: Program
    # A name in PATH, or a path.
    kubectl: str

    def __post_init__(self) -> None:
        # It also runs in other folders.
        found = shutil.which(self.kubectl) or self.kubectl
        self.kubectl = str(Path(found).resolve())

    @property
    def bin_dir(self) -> Path:
        """The folder of our programs."""
        return self.program.path.parent

    def document(self, document: Document) -> Iterator[str]:
        """Yields the faults in the commands of a document."""
        for block in document.blocks:
            yield from (f"{block.where}: {fault}" for fault in self._block(block))
        for paragraph in document.paragraphs:
            for span in paragraph.spans:
                yield from (f"{paragraph.where}: `{span}`: {fault}" for fault in self._span(span))

    def _block(self, block: Piece) -> Iterator[str]:
        if block.language in SHELL or (block.language == INDENTED and is_shell(block.text)):
            yield from self.shell(block.text)
        elif block.language == INDENTED and block.text.startswith("--"):
            yield from self.shell(f"hrm-learner serve {block.text}")
        elif block.language == "text":
            yield from self._session(block.text)

    def _span(self, span: str) -> Iterator[str]:
        if span.startswith("--"):
            yield from self._flags(span)
        elif span.startswith(tuple(f"{name} " for name in INLINE)) or re.match(r"[A-Z_]+=\S* make ", span):
            yield from self.shell(span)

    def shell(self, text: str) -> Iterator[str]:
        """Yields the faults of some lines of shell."""
        try:
            found = commands(text)
            unbraced = commands(text, braces=False)
        except Unreadable as fault:
            yield str(fault)
            return
        for one in found:
            if one in unbraced:
                yield from (f"{one}: {fault}" for fault in self.command(one))
            else:
                yield f"{one}: bash made some of these words of braces; write them out"

    def _flags(self, span: str) -> Iterator[str]:
        """Yields the faults of flags that stand alone, of any program."""
        try:
            flags, plain = commands(f"_ {span}")[0], commands(f"_ {span}", braces=False)[0]
        except Unreadable as fault:
            yield str(fault)
            return
        if flags != plain:
            yield f"{span}: bash makes other words of the braces; write them out"
        words = plain.words
        for setting in (words[at + 1] for at in range(len(words) - 1) if words[at] == "--set"):
            if setting.partition(".")[0] in self.program.sections and "=" in setting:
                yield from self._refused("--set", setting)

    def command(self, command: Command) -> Iterator[str]:
        """Yields the faults of one command."""
        name, *arguments = command.words
        if name == "docker" and arguments:
            name, arguments = f"docker {arguments[0]}", arguments[1:]
        if name in OURS:
            yield from self._ours(name, arguments)
        elif name == "make":
            yield from self._make(arguments)
        elif name == "cargo":
            yield from self._cargo(arguments)
        elif name == "kubectl":
            yield from self._kubectl(arguments, command.text)
        elif name == "helm":
            yield from cluster.faults_of_helm(arguments)
        elif name in ("docker compose", "docker-compose"):
            yield from self._compose(arguments)
        elif name == "python3":
            yield from self._python(arguments)
        elif name not in OTHERS:
            yield f"unknown command {name}"

    def _ours(self, name: str, arguments: Sequence[str]) -> Iterator[str]:
        path = self.bin_dir / name
        if not arguments:
            return
        named = [Path(value) for flag, value in zip(arguments, arguments[1:], strict=False) if flag == "--config"]
        # A file of the reader or of a container.
        elsewhere = any(path.is_absolute() or PLACEHOLDER.search(str(path)) for path in named)
        arguments = ["1" if PLACEHOLDER.fullmatch(word) else word for word in arguments]
        # Clap checks every flag and value before it prints help.
        if refused := failure([str(path), *arguments, "--help"]):
            yield refused
            return
        subcommand, *rest = arguments
        if elsewhere:
            return
        if subcommand in CONFIGURED:
            flags = [word for word in rest if word != "--resume"]
            if "--service" not in flags and (refused := failure([str(path), "config", "--print", *flags])):
                yield refused
        for flag, value in zip(rest, rest[1:], strict=False):
            if flag == "--set" and subcommand not in CONFIGURED:
                yield from self._refused("--set", value)
            if flag == "--config" and subcommand not in CONFIGURED and not (REPOSITORY / value).exists():
                yield f"there is no file {value}"

    def _refused(self, *arguments: str) -> Iterator[str]:
        refused = self.program.configuration(*arguments)
        if isinstance(refused, str):
            yield refused

    @cached_property
    def _makefile(self) -> tuple[set[str], set[str]]:
        """The targets, and the variables that a reader may set."""
        text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE))
        return targets, set(re.findall(r"^([A-Z_]+)\s*\?=", text, re.MULTILINE))

    def _make(self, arguments: Sequence[str]) -> Iterator[str]:
        targets, variables = self._makefile
        wanted = [word for word in arguments if "=" not in word]
        settings = dict(word.split("=", 1) for word in arguments if "=" in word)
        yield from (f"there is no target {target}" for target in wanted if target not in targets)
        yield from (f"there is no variable {name}" for name in settings if name not in variables)
        for name in ("CONFIG", "STUDY"):
            if name in settings and not (REPOSITORY / settings[name]).exists():
                yield f"there is no file {settings[name]}"
        if "train" in wanted:
            more = shlex.split(settings.get("ARGS", ""))
            yield from self._ours("hrm-learner", ["train", "--config", "configs/four-rooms.toml", *more])
        if "study" in wanted:
            yield from self._ours("hrm-learner", ["study", "FILE", *shlex.split(settings.get("ARGS", ""))])
        for image in settings.get("IMAGES", "").split():
            if not re.search(rf"^FROM \S+ AS {image}$", _read("deploy/docker/Dockerfile"), re.MULTILINE):
                yield f"there is no image {image}"

    @cached_property
    def _packages(self) -> dict[str, set[str]]:
        """The workspace's packages, and their tests and benchmarks."""
        found = {}
        for member in tomllib.loads(_read("Cargo.toml"))["workspace"]["members"]:
            manifest = tomllib.loads(_read(f"{member}/Cargo.toml"))
            tests = REPOSITORY / member / "tests"
            names = {path.stem for path in tests.glob("*.rs")} | {path.parent.name for path in tests.glob("*/main.rs")}
            names |= {bench["name"] for bench in manifest.get("bench", [])}
            found[manifest["package"]["name"]] = names
        return found

    def _cargo(self, arguments: Sequence[str]) -> Iterator[str]:
        own = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
        package = ""
        for flag, value in zip(own, own[1:], strict=False):
            if flag in ("-p", "--package"):
                package = value
                if value not in self._packages:
                    yield f"there is no package {value}"
            if flag in ("--test", "--bench") and value not in self._packages.get(package, set()):
                yield f"package {package or 'unnamed'} has no {flag.removeprefix('--')} {value}"

    def _kubectl(self, arguments: Sequence[str], text: str) -> Iterator[str]:
        own = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
        if refused := failure([self.kubectl, *own, "--help"]):
            yield refused
        for flag, value in zip(own, own[1:], strict=False):
            if flag == "-k" and value.startswith("deploy/") and not (REPOSITORY / value).exists():
                yield f"there is no folder {value}"
        yield from cluster.faults_of_kubectl(self.kubectl, own, text)

    def _compose(self, arguments: Sequence[str]) -> Iterator[str]:
        text = re.sub(r"\$\{\w+(?::-([^}]*))?\}", r"\1", _read("docker-compose.yml"))
        services = yaml.safe_load(text)["services"]
        profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
        words, free, chosen = list(arguments), [], []
        while words:
            # The rest is a command for the container.
            if free[:1] == ["exec"] and len(free) == 2:
                yield from self.command(Command(tuple(words)))
                break
            flag, _, value = words.pop(0).partition("=")
            if flag not in ("--profile", "--scale", "--env-file", "--project-name"):
                free += [] if flag.startswith("-") else [flag]
                continue
            value = value or (words.pop(0) if words else "")
            if flag == "--profile" and value not in profiles:
                yield f"there is no profile {value}"
            elif flag == "--profile":
                chosen += ["--profile", value]
            if flag == "--scale" and value.partition("=")[0] not in services:
                yield f"there is no service {value}"
        # The services of these profiles, as Compose itself reads them.
        if (compose := compose_program()) and (refused := failure([*compose, *chosen, "config", "--quiet"])):
            yield refused
        if free and free[0] not in COMPOSE:
            yield f"unknown command {free[0]} of Compose"
        yield from (f"there is no service {name}" for name in free[1:] if name not in services)

    def _python(self, arguments: Sequence[str]) -> Iterator[str]:
        if arguments[:1] != ["-c"]:
            # A module of ours is a file; another, such as venv, is Python's own.
            ours = arguments[:1] == ["-m"] and "".join(arguments[1:2]).startswith("deploy.")
            file = f"{arguments[1].replace('.', '/')}.py" if ours else arguments[0]
            if (ours or file != "-m") and not (REPOSITORY / file).exists():
                yield f"there is no file {file}"
            return
        with tempfile.TemporaryDirectory() as folder:
            walk = ["eval", "--config", "configs/four-rooms.toml", "--policy", "oracle", "--episodes", "2"]
            dump = str(Path(folder) / "episodes.jsonl")
            if refused := failure([str(self.program.path), *walk, "--dump", dump]):
                yield refused
                return
            made = run(["python3", *arguments], folder)
            if made.returncode != 0:
                yield made.stderr.strip().splitlines()[-1]
            elif not {"A", "G"} <= set(made.stdout):
                yield "its output has no agent and no goal"

    def _session(self, text: str) -> Iterator[str]:
        """Yields the faults of commands after a `$`, and of their printed output."""
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, stated = part.partition("\n")
            words = shlex.split(line)
            if words[0] in OURS and words[1:2] == ["config"]:
                made = run([str(self.bin_dir / words[0]), *words[1:]], REPOSITORY)
                if (made.stdout + made.stderr).strip() != stated.strip():
                    yield f"{line}: it prints {(made.stdout + made.stderr).strip()!r}"
            else:
                yield from self.shell(line)


def is_shell(text: str) -> bool:
    """True if an indented block begins with a command."""
    first = text.split(maxsplit=1)[0].removeprefix("target/release/") if text.split() else ""
    known = {*OURS, *OTHERS, "make", "cargo", "kubectl", "helm", "docker", "docker-compose", "python3"}
    return first in known or "=" in first


def run(command: Sequence[str], folder: Path | str) -> subprocess.CompletedProcess[str]:
    """Runs a command without variables of ours."""
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def failure(command: Sequence[str]) -> str:
    """Returns the cause of a command's failure, or an empty text if it succeeds."""
    return _failure(tuple(command))


@cache
def compose_program() -> tuple[str, ...]:
    """Returns the words that start Compose, or none where it is not installed."""
    for program in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(program[0]) and not failure([*program, "version"]):
            return program
    return ()


@lru_cache(maxsize=None)
def _failure(command: tuple[str, ...]) -> str:
    made = run(command, REPOSITORY)
    said = [line.strip() for line in made.stderr.splitlines() if line.strip()]
    return "" if made.returncode == 0 else " ".join(said[:2]) or f"exit status {made.returncode}"


def _read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")
