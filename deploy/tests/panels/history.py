"""The scripted history: runs of three learners.

Run `carry` trains for a week. Then four states follow, an hour apart, each for `WINDOW` seconds: healthy, with 200
actors that are all replaced by new pods; starved, with 4 actors; down, with 4 actors and no learner; complete, without
actors. Runs `reset` and `plain` have three actors each and are the same in each state, so that panels of one run which
show another are found.

The samples of `carry` and `reset` have the labels that Prometheus gives them in Kubernetes, by the relabelings of the
project's monitors. Their learners are pods of one name in two namespaces. The samples of `plain` have the labels of a
Compose project: no namespace and no pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import yaml

from ..paths import K8S

HOUR = 3600
DAY = 24 * HOUR
# 2026-01-05 00:00 UTC.
BEGIN = 1767571200
WEEK_END = BEGIN + 7 * DAY
WINDOW = 15 * 60

# Seconds between two samples. A learner is scraped as often as the project's configuration says; actors and the week
# are scraped less often, because there are many samples.
LEARNER_STEP, ACTOR_STEP, WEEK_STEP = 5, 10, 10
# Run carry starts again after these times, and is down for a minute before.
RESTARTS = (2 * DAY, 5 * DAY)
DOWN = 60
# An evaluation and a checkpoint in the week; the second follows the first.
EVALUATION_EVERY = 6 * HOUR
CHECKPOINT_DELAY = 600

Labels = dict[str, str]
Value = Callable[[float], float]


@dataclass(frozen=True)
class Run:
    """A run, with its place."""

    name: str
    namespace: str
    maze: str
    device: str
    host: str


CARRY = Run("carry", "one", "four-rooms", "cuda:0", "node-1")
RESET = Run("reset", "two", "random", "cpu", "node-2")
PLAIN = Run("plain", "", "random", "cpu", "node-3")
OTHERS = (RESET, PLAIN)


@dataclass(frozen=True)
class State:
    """A run in a steady state. Rates are per second."""

    actors: int
    # Frames of an actor.
    frames: float
    # Shares of the learner's and of an actor's time, by stage.
    learner_stages: dict[str, float]
    actor_stages: dict[str, float]
    versions: float
    run_frames: float
    queue: float
    # Frames of the newest evaluation in the first and in the second half of the window.
    evaluated: tuple[float, float]
    # Episodes at the start of the window.
    episodes: float = 100_000
    gpu: float = 0.0
    complete: bool = False
    # False if the learner is down, and its actors reconnect.
    learner: bool = True
    # True if each actor is replaced once.
    churn: bool = False
    # Seconds since the newest checkpoint at the end of the window.
    checkpoint_age: float = 300.0


BUSY = {"batch": 0.02, "recompute": 0.1, "vtrace": 0.02, "passes": 0.7, "publish": 0.03, "checkpoint": 0.01}
IDLE = dict.fromkeys(BUSY, 0.0)
ACTING = {"infer": 0.8, "step": 0.05, "encode": 0.02, "wait": 0.13}
GOAL = 10_000_000.0

STATES = {
    "healthy": State(
        200, 100.0, {**BUSY, "wait": 0.12}, ACTING, 0.5, 5_000_000, 16, (2_700_000, 4_500_000), gpu=92.0, churn=True
    ),
    "starved": State(
        4,
        100.0,
        {**BUSY, "passes": 0.1, "wait": 0.72},
        {"infer": 0.9, "step": 0.06, "encode": 0.02, "wait": 0.02},
        0.1,
        7_500_000,
        0,
        (4_500_000, 6_750_000),
        gpu=20.0,
    ),
    "down": State(4, 0.0, {}, dict.fromkeys(ACTING, 0.0), 0.0, 0, 0, (0, 0), learner=False),
    "complete": State(
        0, 0.0, {**IDLE, "wait": 0.0}, {}, 0.0, GOAL, 0, (6_750_000, GOAL), complete=True, checkpoint_age=900.0
    ),
}
# Too few episodes for the success rate to settle.
OTHER = State(
    3,
    20.0,
    {**BUSY, "passes": 0.5, "wait": 0.32},
    ACTING,
    0.2,
    1_000_000,
    4,
    (900_000, 950_000),
    episodes=0,
    checkpoint_age=120.0,
)


def window(state: str) -> tuple[int, int]:
    """Returns the first and the last second of a state."""
    start = WEEK_END + list(STATES).index(state) * HOUR
    return start, start + WINDOW


@dataclass
class Samples:
    """Samples in the OpenMetrics format, without the types."""

    lines: list[str] = field(default_factory=list)

    def add(self, name: str, labels: Labels, times: Iterable[float], value: Value | float) -> None:
        """Adds a series."""
        head = f"{name}{{{','.join(f'{key}={chr(34)}{text}{chr(34)}' for key, text in labels.items())}}}"
        if callable(value):
            self.lines += [f"{head} {value(time):.10g} {time}" for time in times]
        else:
            self.lines += [f"{head} {value:.10g} {time}" for time in times]

    def text(self) -> str:
        """Returns all of them as a file."""
        return "\n".join([*self.lines, "# EOF", ""])


def every() -> Iterator[Samples]:
    """Yields the samples of the week, and of each state."""
    monitors = Monitors()
    yield the_week(monitors)
    for name, state in STATES.items():
        samples = Samples()
        for number, run in enumerate((CARRY, *OTHERS), start=1):
            its_state = state if run is CARRY else OTHER
            Deployment(samples, monitors, run, its_state, *window(name), 1000.0 * number).add()
        yield samples


def the_week(monitors: Monitors) -> Samples:
    """What annotations show of a week of run carry."""
    samples = Samples()
    labels = monitors.learner(CARRY.namespace, "hrm-learner-0", "10.0.1.1:9100")
    starts = [0, *RESTARTS, 7 * DAY]
    for number, (start, end) in enumerate(zip(starts, starts[1:]), start=1):
        times = range(BEGIN + start, BEGIN + end - DOWN, WEEK_STEP)
        samples.add("hrm_learner_run_info", {**labels, **run_info(CARRY)}, times, 1)
        samples.add("hrm_learner_run_complete", labels, times, 0)
        samples.add("hrm_learner_starts", labels, times, number)
        done = [time for time in times if time >= BEGIN + EVALUATION_EVERY]
        samples.add("hrm_learner_eval_frames", labels, done, evaluated_frames)
        saved = [time for time in times if time >= BEGIN + EVALUATION_EVERY + CHECKPOINT_DELAY]
        samples.add("hrm_learner_checkpoint_timestamp_seconds", labels, saved, saved_at)
    return samples


def evaluated_frames(time: float) -> float:
    """The frames of the newest evaluation of the week."""
    return (time - BEGIN) // EVALUATION_EVERY * 100_000


def saved_at(time: float) -> float:
    """The time of the newest checkpoint of the week."""
    return BEGIN + (time - BEGIN - CHECKPOINT_DELAY) // EVALUATION_EVERY * EVALUATION_EVERY + CHECKPOINT_DELAY


def run_info(run: Run) -> Labels:
    """The labels of a learner's `hrm_learner_run_info`."""
    return {
        "run": run.name,
        "maze": run.maze,
        "preset": "small",
        "carry": run.name,
        "synchronous": "false",
        "kernels": "avx512",
        "backend": "mixed",
        "device": run.device,
    }


class Monitors:
    """The labels that the project's ServiceMonitor and PodMonitor give to targets, and those without a monitor."""

    def __init__(self) -> None:
        text = (K8S / "components/monitoring/monitors.yaml").read_text(encoding="utf-8")
        kinds = {monitor["kind"]: monitor["spec"] for monitor in yaml.safe_load_all(text)}
        self.of_learner = kinds["ServiceMonitor"]["endpoints"][0].get("relabelings", [])
        self.of_actor = kinds["PodMonitor"]["podMetricsEndpoints"][0].get("relabelings", [])

    def learner(self, namespace: str, pod: str, address: str) -> Labels:
        """The labels of a learner's series; the job is the name of its service."""
        return self._labels(self.of_learner, "hrm-learner", namespace, pod, address)

    def actor(self, namespace: str, pod: str, address: str) -> Labels:
        """The labels of an actor's series."""
        return self._labels(self.of_actor, f"{namespace}/hrm-actor", namespace, pod, address)

    @staticmethod
    def _labels(relabelings: list[dict], job: str, namespace: str, pod: str, address: str) -> Labels:
        if not namespace:
            return {"job": job.removeprefix("/"), "instance": address}
        labels = {"job": job, "instance": address, "namespace": namespace, "pod": pod}
        found = {"__meta_kubernetes_pod_name": pod}
        for rule in relabelings:
            if unknown := rule.keys() - {"sourceLabels", "targetLabel", "replacement"}:
                raise SystemExit(f"monitors.yaml: this test knows no relabeling with {', '.join(sorted(unknown))}")
            source = ";".join(found[label] for label in rule.get("sourceLabels", []))
            labels[rule["targetLabel"]] = rule.get("replacement", source)
        return labels


class Deployment:
    """The learner and the actors of a run in one state."""

    def __init__(
        self, samples: Samples, monitors: Monitors, run: Run, state: State, start: int, end: int, versions: float
    ) -> None:
        self.samples, self.monitors, self.run, self.state = samples, monitors, run, state
        self.start, self.end = start, end
        self.times = range(start, end + 1, LEARNER_STEP)
        # The learner's version at the start.
        self.versions = versions
        self.labels = monitors.learner(run.namespace, "hrm-learner-0", f"10.0.{int(versions)}.1:9100")

    def add(self) -> None:
        """Adds everything."""
        if self.state.learner:
            self.learner()
            self.training()
            self.transport()
            self.gpus()
        for number in range(self.state.actors):
            for labels, first, last in self.pods(number):
                self.actor(number, labels, first, last)

    def rising(self, rate: float, first: float = 0.0) -> Value:
        """A counter."""
        return lambda time: first + rate * (time - self.start)

    def put(self, name: str, value: Value | float, **labels: str) -> None:
        """Adds a series of the learner."""
        self.samples.add(name, {**self.labels, **labels}, self.times, value)

    def version(self, time: float) -> float:
        """The learner's version."""
        return self.versions + int(self.state.versions * (time - self.start))

    def learner(self) -> None:
        """The run, and the process."""
        state, frames = self.state, self.state.frames * self.state.actors
        self.put("up", 1)
        self.put("hrm_build_info", 1, role="learner", version="0.1.0")
        self.put("hrm_learner_run_info", 1, **run_info(self.run))
        self.put("hrm_learner_run_complete", float(state.complete))
        self.put("hrm_learner_starts", 3)
        self.put("hrm_learner_run_frames", lambda time: state.run_frames + frames * (time - self.end))
        self.put("hrm_learner_run_frames_goal", GOAL)
        self.put("hrm_learner_actors", state.actors)
        self.put("hrm_learner_joins_total", self.rising(0.1 * state.churn, 10))
        self.put("process_start_time_seconds", BEGIN + RESTARTS[-1])
        self.put("process_cpu_seconds_total", self.rising(8 * (1 - state.learner_stages["wait"]) * (frames > 0)))
        self.put("process_resident_memory_bytes", 4e9)
        self.put("process_open_fds", 50 + state.actors)
        self.put("process_max_fds", 1000)
        self.put("process_threads", 24)

    def training(self) -> None:
        """What a learner says of training."""
        state, frames = self.state, self.state.frames * self.state.actors
        for name, value in {
            "episode_success_ratio": 0.95,
            "episode_return": 0.8,
            "episode_length_steps": 20,
            "episode_path_ratio": 1.4,
            "curriculum_distance_steps": 0,
            "eval_success_ratio": 0.97,
            "eval_path_ratio": 1.3,
            "eval_episode_length_steps": 18,
            "gradient_norm": 1.5,
            "gradient_noise_scale_frames": 4000,
            "learning_rate": 0.0003,
            "max_policy_lag_versions": 8,
        }.items():
            self.put(f"hrm_learner_{name}", value)
        # One evaluation and one checkpoint within the window.
        middle = self.start + WINDOW // 2
        self.put("hrm_learner_eval_frames", lambda time: state.evaluated[time >= middle])
        self.put("hrm_learner_checkpoint_frames", state.run_frames * 0.9)
        saved = self.end - state.checkpoint_age
        self.put(
            "hrm_learner_checkpoint_timestamp_seconds",
            lambda time: saved if time >= saved else saved_at(WEEK_END - DOWN),
        )
        for term, value in {"policy": 0.01, "value": 0.1, "entropy": 0.5, "total": 0.2}.items():
            self.put("hrm_learner_loss", value, term=term)
        for weight, value in {"rho": 0.2, "c": 0.1}.items():
            self.put("hrm_learner_clipped_ratio", value, weight=weight)
        for statistic, value in {"mean": 0.001, "max": 0.01}.items():
            self.put("hrm_learner_lag_zero_log_ratio", value, statistic=statistic)
        for outcome, share in {"success": 0.95, "truncated": 0.05}.items():
            self.put(
                "hrm_learner_episodes_total", self.rising(share * frames / 20, share * state.episodes), outcome=outcome
            )
        self.put("hrm_learner_updates_total", self.rising(4 * state.versions))
        for name in ("updates_skipped", "rollbacks", "frames_rolled_back"):
            self.put(f"hrm_learner_{name}_total", 0)
        # Every batch lags by one or two versions, and every stage takes up to a second.
        for bound in ("1", "2", "4", "8", "+Inf"):
            rate = 0.0 if bound == "1" else frames
            self.put("hrm_learner_policy_lag_versions_bucket", self.rising(rate), le=bound)
        # Half of the decisions have one segment, and half have two.
        self.put("hrm_learner_decision_segments_sum", self.rising(1.5 * frames))
        self.put("hrm_learner_decision_segments_count", self.rising(frames))
        for stage, share in state.learner_stages.items():
            self.put("hrm_learner_stage_seconds_sum", self.rising(share), stage=stage)
            for bound in ("1", "+Inf"):
                self.put("hrm_learner_stage_seconds_bucket", self.rising(share), stage=stage, le=bound)

    def transport(self) -> None:
        """What a learner says of unrolls, weights and calls."""
        state, frames = self.state, self.state.frames * self.state.actors
        for step in ("received", "admitted", "batched"):
            self.put(f"hrm_learner_unrolls_{step}_total", self.rising(frames / 100))
            self.put(f"hrm_learner_frames_{step}_total", self.rising(frames))
        self.put("hrm_learner_frames_trained_total", self.rising(frames))
        self.put("hrm_learner_received_bytes_total", self.rising(50 * frames))
        self.put("hrm_learner_sent_bytes_total", self.rising(1e6 * state.versions * state.actors))
        self.put("hrm_learner_weights_published_total", self.rising(state.versions))
        self.put("hrm_learner_weights_published_bytes_total", self.rising(1e6 * state.versions))
        self.put("hrm_learner_weights_version", self.version)
        self.put("hrm_learner_queue_unrolls", state.queue)
        self.put("hrm_learner_queue_capacity_unrolls", 128)
        self.put("hrm_learner_batch_unrolls", 64)
        self.put("hrm_learner_window_unrolls", 256)
        for reason in ("stale", "fenced", "not_finite", "stopped", "untrained"):
            self.put("hrm_learner_unrolls_dropped_total", self.rising(0.01 * (reason == "fenced")), reason=reason)
        for reason in ("connections", "handshake", "sessions", "uploads", "unauthenticated", "forbidden"):
            self.put("hrm_learner_calls_refused_total", 0, reason=reason)
        for file in ("checkpoint", "metrics"):
            self.put("hrm_learner_write_failures_total", 0, file=file)
        self.put("hrm_learner_unrolls_refused_total", 2, field="session")

    def gpus(self) -> None:
        """The learner's GPU, and one of another workload on the same host."""
        if self.run.device == "cpu":
            return
        target = {"job": "dcgm-exporter", "instance": "10.0.9.1:9400", "namespace": "gpu-operator", "pod": "dcgm-7"}
        for gpu, pod, busy in (("0", "hrm-learner-0", self.state.gpu), ("1", "other-0", 77.0)):
            labels = {**target, "gpu": gpu, "UUID": f"GPU-{gpu}", "modelName": "H200", "Hostname": self.run.host}
            labels.update(exported_namespace=self.run.namespace, exported_pod=pod)
            for name, value in {"GPU_UTIL": busy, "FB_USED": 20_000, "FB_FREE": 60_000}.items():
                self.samples.add(f"DCGM_FI_DEV_{name}", labels, self.times, value)
            for name, value in {"POWER_USAGE": 100 + 5 * busy, "GPU_TEMP": 40 + busy / 4}.items():
                self.samples.add(f"DCGM_FI_DEV_{name}", labels, self.times, value)

    def pods(self, number: int) -> Iterator[tuple[Labels, int, int]]:
        """Yields the pods of an actor, each with its first and its last second."""
        bounds = [self.start, self.end]
        if self.state.churn:
            bounds.insert(1, self.start + replaced_after(number))
        for life, (first, last) in enumerate(zip(bounds, bounds[1:])):
            pod = f"hrm-actor-5d9c{life}-{number:05d}"
            address = f"10.{1 + life}.{number // 250}.{number % 250}:9101"
            labels = self.monitors.actor(self.run.namespace, pod, address)
            yield labels, first, last if last == self.end else last - ACTOR_STEP

    def actor(self, number: int, labels: Labels, first: int, last: int) -> None:
        """One actor process."""
        state, times = self.state, range(first, last + 1, ACTOR_STEP)

        def put(name: str, value: Value | float, **own: str) -> None:
            self.samples.add(name, {**labels, **own}, times, value)

        def rising(rate: float) -> Value:
            return lambda time: rate * (time - first)

        put("up", 1)
        put("hrm_build_info", 1, role="actor", version="0.1.0")
        put("hrm_actor_connected", int(state.learner))
        put("hrm_actor_rollout_threads", 1)
        put("hrm_actor_frames_total", rising(state.frames))
        put("hrm_actor_unrolls_produced_total", rising(state.frames / 100))
        put("hrm_actor_unrolls_sent_total", rising(state.frames / 100))
        put("hrm_actor_unrolls_abandoned_total", 0)
        put("hrm_actor_sent_bytes_total", rising(50 * state.frames))
        put("hrm_actor_weights_received_total", rising(state.versions))
        put("hrm_actor_weights_received_bytes_total", rising(1e6 * state.versions))
        put("hrm_actor_weights_version", lambda time: self.version(time) - number % 3)
        put("hrm_actor_reconnects_total", rising(0.0 if state.learner else 0.2))
        put("process_start_time_seconds", first)
        put("process_cpu_seconds_total", rising(sum(state.actor_stages.values()) - state.actor_stages["wait"]))
        put("process_resident_memory_bytes", 1e8 + 1e5 * number)
        put("process_open_fds", 20)
        put("process_max_fds", 1000)
        put("process_threads", 6)
        for stage, share in state.actor_stages.items():
            put("hrm_actor_stage_seconds_sum", rising(share), stage=stage)
            for bound in ("1", "+Inf"):
                put("hrm_actor_stage_seconds_bucket", rising(share), stage=stage, le=bound)


def replaced_after(number: int) -> int:
    """The second of the window in which an actor is replaced: sixteen or seventeen of them every half minute."""
    return 60 + number % 12 * 30
