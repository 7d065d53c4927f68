"""Real processes: a learner, two actors, Prometheus and Alertmanager on loopback.

The test provokes the project's alerts, and waits until each reaches Alertmanager for the right process and no other.
Then it checks that every expression of every rule, panel, event and variable has returned an exported series.

Prometheus uses the project's own configuration with addresses in place of names, one scrape per second, and the rules
on a faster clock (scaling.py). Needs the built programs and Debian's packages prometheus and prometheus-alertmanager.

    python3 -m deploy.tests.observability.live --bin-dir target/debug
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import promql_parser as promql
import yaml

from .. import command_line
from ..paths import DEPLOY, REPOSITORY
from ..waiting import Failure
from . import expressions, scaling, stranger
from .api import Alertmanager, Prometheus
from .exported import GPU, OWN
from .labels import selectors
from .link import Link
from .processes import Process, free_ports, program, until

CONFIG = REPOSITORY / "configs/four-rooms.toml"
PROMETHEUS = DEPLOY / "prometheus"

# Two actors that do not wait for the learner, with a model and batches small enough for two shared cores. A batch makes
# eight updates, and two threads share each, so that there is a noise scale. Episodes are short, so that the success
# rate settles after thousands of them.
SMALL = {
    "rollout.synchronous": "false",
    "rollout.envs": "16",
    "rollout.unroll_length": "8",
    "learner.batch_unrolls": "1",
    "learner.max_policy_lag_batches": "8",
    "learner.total_frames": "1000000000",
    "learner.max_minutes": "0",
    "learner.threads": "2",
    "learner.drain_seconds": "5",
    "loss.updates_per_batch": "8",
    "model.hidden": "16",
    "model.h_cycles": "1",
    "model.l_cycles": "1",
    "env.max_steps": "5",
    "eval.interval_frames": "2000",
    "eval.episodes": "100",
    "checkpoint.interval_frames": "1000000000",
}

# Bytes per second of a slow link: a small part of an unroll.
SLOW = 20_000
# Limit of the longest wait, in seconds. Alerts need `for` and their range, both at most 15 s here.
PATIENCE = 180.0
# Seconds after the last event until Prometheus has scraped and recorded it.
LAST_SCRAPES = 20.0


class Cluster:
    """All processes, with their addresses."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries, self.folder = binaries, folder
        ports = free_ports(6)
        self.grpc, self.metrics, *self.actor_metrics, self.prometheus_port, self.alertmanager_port = ports
        self.learner_address = f"127.0.0.1:{self.metrics}"
        self.actor_addresses = [f"127.0.0.1:{port}" for port in self.actor_metrics]
        self.links = [Link(self.grpc) for _ in self.actor_metrics]
        self.learner: Process | None = None
        self.others: list[Process] = []
        self.prometheus = Prometheus(self.prometheus_port)
        self.alertmanager = Alertmanager(self.alertmanager_port)

    def start_learner(self, name: str, **settings: str) -> None:
        """Starts a learner of a new run, at the address of the previous one."""
        command = [str(self.binaries / "hrm-learner"), "serve", "--config", str(CONFIG)]
        command += ["--listen", f"127.0.0.1:{self.grpc}", "--metrics-listen", self.learner_address]
        command += ["--run-dir", str(self.folder / "runs" / name), "--set", f"run.name={name}"]
        for key, value in {**SMALL, **{key.replace("__", "."): value for key, value in settings.items()}}.items():
            command += ["--set", f"{key}={value}"]
        self.learner = Process(f"learner-{name}", command, self.folder)

    def certificates(self) -> dict[str, str]:
        """Makes certificates, and returns the settings of a learner that uses them."""
        folder = self.folder / "certs"
        command = [self.binaries / "hrm-learner", "certs", folder, "--host", "localhost"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {
            "learner__tls_certificate": f"{folder}/learner.pem",
            "learner__tls_private_key": f"{folder}/learner-key.pem",
        }

    def start_actors(self) -> None:
        """Starts two actors, each over a link of its own."""
        for number, (link, address) in enumerate(zip(self.links, self.actor_addresses)):
            command = [str(self.binaries / "hrm-actor"), "run", "--learner", f"http://127.0.0.1:{link.port}"]
            command += ["--metrics-listen", address, "--set", "actor.backoff_max_ms=500"]
            self.others.append(Process(f"actor-{number}", command, self.folder))

    def start_watchers(self) -> None:
        """Starts Prometheus and Alertmanager."""
        manager = self.folder / "alertmanager.yml"
        manager.write_text(yaml.safe_dump({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}))
        command = [program("prometheus-alertmanager", "prometheus-alertmanager"), f"--config.file={manager}"]
        command += [f"--storage.path={self.folder}/alertmanager", "--cluster.listen-address="]
        command += [f"--web.listen-address=127.0.0.1:{self.alertmanager_port}"]
        self.others.append(Process("alertmanager", command, self.folder))

        command = [program("prometheus", "prometheus"), f"--config.file={self.configuration()}"]
        command += [f"--storage.tsdb.path={self.folder}/prometheus"]
        command += [f"--web.listen-address=127.0.0.1:{self.prometheus_port}"]
        self.others.append(Process("prometheus", command, self.folder))

    def configuration(self) -> Path:
        """Writes the project's prometheus.yml and rules, adapted to these processes."""
        content = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
        content["global"].update(scrape_interval="1s", scrape_timeout="1s", evaluation_interval="1s")
        targets: dict[str, list[str]] = {"hrm-learner": [self.learner_address], "hrm-actor": self.actor_addresses}
        for job in content["scrape_configs"]:
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": targets.pop(job["job_name"])}]
        if targets:
            raise Failure(f"prometheus.yml has no job {', '.join(targets)}")
        address = f"127.0.0.1:{self.alertmanager_port}"
        content["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
        folder = self.folder / "rules"
        folder.mkdir()
        for source in sorted(PROMETHEUS.glob("rules/*.yml")):
            scaling.rules(source, folder / source.name)
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    def until(self, what: str, condition, learner: bool = True) -> None:
        """Waits for a condition, and fails if a process that should live ends."""
        alive = [*self.others, *([self.learner] if learner and self.learner else [])]
        until(what, condition, PATIENCE, alive)

    def until_returns(self, what: str, expr: str) -> None:
        """Waits until an expression returns something."""
        self.until(what, lambda: self.prometheus.now(expr))

    def until_alert(self, name: str, *instances: str, learner: bool = True) -> None:
        """Waits until an alert has reached Alertmanager for these and no others."""
        wanted = set(instances)
        self.until(f"{name} reached Alertmanager", lambda: self.alertmanager.has(name, wanted), learner)
        for alert in self.alertmanager.alerts(name):
            for note in alert["annotations"].values():
                if "<no value>" in note or "<error" in note:
                    raise Failure(f"{name}: {note}")

    def close(self) -> None:
        """Ends everything."""
        for process in [*reversed(self.others), self.learner]:
            if process:
                process.stop()
        for link in self.links:
            link.close()


def play(cluster: Cluster) -> None:
    """Causes one fault after another, and waits for its alert."""
    learner, (_, second) = cluster.learner_address, cluster.actor_addresses
    cluster.start_watchers()
    for name, server in (("Prometheus", cluster.prometheus), ("Alertmanager", cluster.alertmanager)):
        cluster.until(f"{name} is ready", server.ready)

    cluster.start_learner("plain")
    cluster.until_alert("HrmNoActorConnected", learner)
    cluster.start_actors()
    cluster.until("HrmNoActorConnected is over", lambda: cluster.alertmanager.has("HrmNoActorConnected", set()))
    cluster.until_returns("both actors are joined", "sum(hrm_actor_connected) == 2")
    cluster.until_returns("an evaluation found a path", "hrm_learner_eval_path_ratio")
    cluster.until_returns("success has settled", "instance_run:hrm_learner_episode_success_ratio:settled")

    for link in cluster.links:
        link.up_rate = SLOW
    cluster.until_alert("HrmLearnerStarved", learner)
    for link in cluster.links:
        link.up_rate = None

    cluster.until_returns("versions rise", "rate(hrm_learner_weights_published_total[3s]) > 1")
    cluster.links[1].cut()
    cluster.until_alert("HrmWeightsNotReachingActor", second)
    cluster.links[1].mend()
    cluster.until_returns("the actor is back", f'hrm_actor_connected{{instance="{second}"}} == 1')

    cluster.until_alert("HrmCheckpointTooOld", learner)
    cluster.learner.kill()
    cluster.until_alert("HrmLearnerDown", learner, learner=False)

    # No lag is allowed, so of two actors that take turns one is always too old.
    cluster.start_learner("strict", learner__max_policy_lag_batches="0", checkpoint__interval_frames="1000")
    cluster.until_alert("HrmPolicyLagAboveBound", learner)
    cluster.until_returns("it saved", "hrm_learner_checkpoint_frames > 0")
    stranger.upload(cluster.grpc)
    cluster.until_alert("HrmUnrollsRefused", learner)
    cluster.learner.stop()

    # The first update is so large that the next ones are not finite. The learner undoes all of them, repeatedly, and ends
    # within a second. Actors come only once it has been scraped, so that it waits for a scrape of its last values.
    for link in cluster.links:
        link.cut()
    cluster.start_learner("diverging", optimizer__learning_rate="1e30", optimizer__warmup_updates="0")
    cluster.until_returns("it is scraped", 'hrm_learner_run_info{run="diverging"}')
    for link in cluster.links:
        link.mend()
    cluster.until_alert("HrmLossNotFinite", learner, learner=False)

    cluster.start_learner("tls", **cluster.certificates())
    cluster.until_returns("its certificate expires", "hrm_learner_certificate_expiry_timestamp_seconds")


def questions() -> dict[str, str]:
    """Returns the expressions and selectors that must have returned a series, with their places."""
    asked: dict[str, str] = {}
    for expression in expressions.every():
        # Panels use the clock of the scrape; rules use the faster clock on which they ran.
        text = expression.plain("5s")
        if expression.kind in ("record", "alert"):
            text = scaling.expression(text)
        used = selectors(promql.parse(text))
        # No process of this test has a GPU.
        if any(selector.name in GPU for selector in used):
            continue
        # An alert returns a series only while it fires. Its selectors must return one anyway.
        if expression.kind == "record":
            labels = [f"{name}={json.dumps(value)}" for name, value in expression.labels.items()]
            asked.setdefault(f"{expression.record}{{{', '.join(labels)}}}", expression.where)
        elif expression.kind != "alert":
            asked.setdefault(text, expression.where)
        for selector in used:
            # The code above asks for recorded series. The rest are exported, or Prometheus's own.
            if ":" not in selector.name and selector.name not in OWN:
                asked.setdefault(bare(selector), expression.where)
    return asked


def ask(cluster: Cluster, start: float) -> None:
    """Waits until every question has had an answer; the last scrape may take another second."""
    pending = questions()

    def answered() -> bool:
        for question in list(pending):
            if cluster.prometheus.ever(question, start, time.time()):
                del pending[question]
        return not pending

    try:
        until(f"{len(pending)} expressions and selectors returned series", answered, LAST_SCRAPES, [])
    except Failure as failure:
        lines = [f"    {where}: {question}" for question, where in pending.items()]
        raise Failure("\n".join([f"{failure}; these never did:", *lines])) from None


def bare(selector: promql.VectorSelector) -> str:
    """Returns a selector without its offset."""
    signs = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    matchers = [
        f"{matcher.name}{signs[str(matcher.op).rpartition('.')[-1]]}{json.dumps(matcher.value)}"
        for matcher in selector.matchers.matchers
    ]
    return f"{selector.name}{{{', '.join(matchers)}}}"


def main() -> int:
    """Runs the test in a folder of its own."""
    parser = command_line.parser(__doc__)
    command_line.add_bin_dir(parser)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs and data")
    arguments = parser.parse_args()
    binaries = find(arguments.bin_dir)

    folder = Path(tempfile.mkdtemp(prefix="hrm-live-"))
    began = time.time()
    try:
        with contextlib.closing(Cluster(binaries, folder)) as cluster:
            play(cluster)
            ask(cluster, began)
            if faults := cluster.prometheus.unhealthy_rules():
                raise Failure("rules that fail:\n" + "\n".join(faults))
    except Failure as failure:
        print(f"live: FAILED: {failure}\nlive: logs are in {folder}", file=sys.stderr)
        return 1
    if not arguments.keep:
        shutil.rmtree(folder)
    print(f"live: passed in {time.time() - began:.0f} s")
    return 0


def find(folder: Path) -> Path:
    """The folder with both programs, as an absolute path."""
    if not all((folder / name).is_file() for name in ("hrm-learner", "hrm-actor")):
        raise SystemExit(f"live: no hrm-learner and hrm-actor in {folder}: run `cargo build --workspace --bins`")
    return folder.resolve()


if __name__ == "__main__":
    sys.exit(main())
