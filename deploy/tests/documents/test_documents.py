"""Tests of the documents' checks: each finds its faults, and accepts correct text.

Needs the programs in the folder BIN_DIR, kubectl (KUBECTL) and promtool.

    BIN_DIR=target/debug python3 -m unittest deploy.tests.documents.test_documents
"""

from __future__ import annotations

import os
import unittest
from pathlib import Path

from ..paths import REPOSITORY
from . import check_documents
from .commands import Checker
from .markdown import Document, tracked
from .settings_stated import Program
from .shell import commands

BIN_DIR = Path(os.environ.get("BIN_DIR", "target/debug"))
KUBECTL = os.environ.get("KUBECTL", "kubectl")
CHECKER = Checker(Program((REPOSITORY / BIN_DIR / "hrm-learner").resolve()), KUBECTL)
FILES = tracked()

SCRAPES = "```yaml\nglobal: {{scrape_interval: {}}}\nscrape_configs: [{{job_name: hrm-learner}}]\n```\n\n"
RATE = "    rate(hrm_learner_run_frames[1m])\n"


def faults(text: str) -> list[str]:
    """Returns the faults of a document with this text."""
    return list(check_documents.faults(Document("a.md", text), CHECKER, FILES))


class Statements(unittest.TestCase):
    """Defaults, settings and keys."""

    def test_true_statements_pass(self) -> None:
        for text in (
            "`learner.max_policy_lag_batches` (8) drops",
            "`learner.queue_unrolls`, 4, must",
            "`learner.total_frames` (250,000)",
            "`learner.local_actors` (default 2)",
            "`learner.max_minutes` (7 in `configs/four-rooms.toml`, so",
            "`rollout.synchronous` (false)",
            '`model.preset` (`"small"`)',
            "`batch_unrolls × envs × unroll_length` = 1,024",
            "a batch of the defaults makes 32",
            "`curriculum.enabled = false` and `loss.rs`, `run.json`",
            "HRM__LOSS__GAMMA=0.97 and HRM__SECTION__KEY",
            "`L / F × w` = 125 MB/s",
            "For four-rooms-long set TOTAL_FRAMES=900000, for random-maze-long 600000",
        ):
            self.assertEqual(faults(text), [], text)

    def test_false_statements_are_named(self) -> None:
        for text, said in (
            ("`learner.max_policy_lag_batches` (4; a batch", "learner.max_policy_lag_batches is 8 by default, not 4"),
            ("`learner.queue_unrolls`, 8, must", "learner.queue_unrolls is 4 by default, not 8"),
            ("`learner.max_minutes` (8 in `configs/four-rooms.toml`)", "7"),
            ("`learner.max_minutes` of `configs/none.toml`, 7,", "none.toml"),
            ("`rollout.synchronous` (true)", "is False by default"),
            ('`model.preset` (`"paper"`)', "is small by default"),
            ("| F | `batch_unrolls × envs × unroll_length` | 512 |", "is 1024 with the defaults, not 512"),
            ("`loss.passes × rollout.env` = 2", "rollout.env is not a key"),
            ("a batch of the default configuration makes 8", "is 32 with the defaults, not 8"),
            ("For four-rooms-long set TOTAL_FRAMES=800000", "learner.total_frames is 900000 in configs/four-rooms-long"),
            ("`learner.treads`", "there is no key learner.treads"),
            ("HRM__LEARNER__TREADS=3", "there is no key learner.treads"),
            ("`learner.threads = many`", "learner.threads"),
        ):
            found = faults(text)
            self.assertEqual(len(found), 1, (text, found))
            self.assertIn(said, found[0], text)


class Commands(unittest.TestCase):
    """Commands, in blocks and in the text."""

    def test_bash_expands_and_starts_nothing(self) -> None:
        found = commands('A=1 hrm-learner x "a b" {c,d} # not e\ncat <<E | grep - \nf\nE\n')
        self.assertEqual(sorted(one.words for one in found)[1:], [("grep", "-"), ("hrm-learner", "x", "a b", "c", "d")])

    def test_the_sides_of_a_pipe_may_start_in_any_order(self) -> None:
        for _ in range(20):
            self.assertEqual(faults("    kubectl logs learner --since=1m | grep resumed | grep -v none\n"), [])

    def test_commands_that_work_pass(self) -> None:
        for text in (
            "    make train ARGS=\"--run-dir runs/b --seed 2\"\n",
            "    hrm-learner certs certs --host LEARNER      # the learner's name\n",
            "    target/release/hrm-learner eval --checkpoint runs/x --episodes 2\n",
            "`hrm-learner train --config FILE` and `hrm-learner train --config raw/ARM/config.toml`",
            "    python3 -m venv /opt/x\n    /opt/x/bin/pip install y\n",
            "    python3 -m deploy.tests.observability.check_promql\n",
            "`hrm-learner study FILE --results DIR --report-only`",
            "    --set learner.batch_unrolls=4 --set rollout.synchronous=false\n",
            "    cargo bench -p hrm-common --bench env -- --quick\n",
            "    docker compose --profile tls up --scale learner=0\n    docker compose logs --follow learner\n",
            "    docker compose exec learner hrm-learner eval --checkpoint runs/four-rooms\n",
            "    docker cp \"$(docker compose ps --quiet learner)\":/var/lib/hrm/runs/four-rooms four-rooms\n",
            "    kubectl -n hrm exec look -- ls -l /runs\n",
            "    kubectl apply -f - <<'NS'\n    {apiVersion: v1, kind: Namespace, metadata: {name: second}}\n    NS\n",
            "    kubectl -n hrm create secret generic hrm-learner --from-file=certs/ca.pem --from-literal=A=b\n",
            "    kubectl -n hrm patch job hrm-actor --patch '{\"spec\": {\"parallelism\": 8}}'\n",
            "    kubectl -n hrm delete job hrm-learner hrm-actor --cascade=foreground\n",
            "    helm install run deploy/chart --namespace hrm --set mode=job,actor.replicas=8\n",
            "    helm install run deploy/chart --values deploy/chart/values/gpu.yaml\n",
            "    helm install run deploy/chart --set-file run=configs/four-rooms.toml\n",
            "    helm install x other/chart --set a.b=c\n",
        ):
            self.assertEqual(faults(text), [], text)

    def test_commands_that_fail_are_named(self) -> None:
        for text, said in (
            ("    make trian\n", "there is no target trian"),
            ("    make train CONFG=configs/four-rooms.toml\n", "there is no variable CONFG"),
            ("    make train CONFIG=configs/none.toml\n", "there is no file configs/none.toml"),
            ("    make train ARGS=\"--sed 2\"\n", "--sed"),
            ("    hrm-learner eval --check runs/x\n", "--check"),
            ("    hrm-learner eval --episodes many\n", "many"),
            ("`hrm-actor run --leaner http://x:1`", "--leaner"),
            ("    hrm-learner serve --set learner.treads=3\n", "learner.treads"),
            ("    --set learner.treads=4\n", "learner.treads"),
            ("    hrm-learner train --config configs/none.toml\n", "none.toml"),
            ("    hrm-learner train --set 'a\n", "unexpected EOF"),
            ("`--set a.{b,c}d=false`", "write them out"),
            ("    helm install x --set a.{b,c}d=false\n", "write them out"),
            ("    cargo bench -p hrm-common --bench none\n", "no bench none"),
            ("    cargo test -p hrm-none\n", "no package hrm-none"),
            ("    docker compose --profile none up\n", "no profile none"),
            ("    docker compose up --scale none=2\n", "no service none"),
            ("    docker compose exec none hrm-learner eval --checkpoint runs/four-rooms\n", "no service none"),
            ("    docker compose exec learner hrm-learner eval --check runs/four-rooms\n", "--check"),
            ("    docker cp \"$(docker compose ps --quiet none)\":/runs/four-rooms four-rooms\n", "no service none"),
            ("    python3 -m deploy.tests.none\n", "there is no file deploy/tests/none.py"),
            ("    kubectl get pods --alll\n", "--alll"),
            ("    kubectl apply -k deploy/k8s/overlays/none\n", "no folder"),
            ("    kubectl apply -f - <<'POD'\n    a: {b\n    POD\n", "flow mapping"),
            ("    kubectl apply -f - <<'POD'\n    a: b\n    POD\n", "not an object of Kubernetes"),
            (
                "    kubectl apply -f - <<'NS'\n    {apiVersion: v1, kind: Namespace, metadata: {nam: x}}\n    NS\n",
                "'nam' was unexpected",
            ),
            ("    kubectl -n hrm logs job/hrm-lerner\n", "no overlay has job hrm-lerner"),
            ("    kubectl -n hrm delete job hrm-learner hrm-actors\n", "no overlay has job hrm-actors"),
            ("    kubectl create secret generic\n", "exactly one NAME is required"),
            ("    kubectl -n hrm patch job hrm-actor --patch '{\"spec\": {\"paralelism\": 8}}'\n", "paralelism"),
            ("    helm install run deploy/chart --set mode=jobs\n", "mode"),
            ("    helm install run deploy/chart --set actor.replica=3\n", "replica"),
            ("    helm install run deploy/chart --values deploy/chart/values/none.yaml\n", "none.yaml"),
            ("    helm install x other/chart --set a={b\n", "a={b"),
            ("    helm instal x other/chart\n", "unknown command instal of Helm"),
            ("    helm install x other/chart --creat-namespace\n", "unknown flag --creat-namespace"),
            ("    sudo true\n    nobody-knows this\n", "unknown command nobody-knows"),
            ("```text\n$ hrm-learner config --print --set learner.treads=3\nanother answer\n```\n", "it prints"),
        ):
            found = faults(text)
            self.assertEqual(len(found), 1, (text, found))
            self.assertIn(said, found[0], text)

    def test_episodes_are_read_as_they_are_written(self) -> None:
        read = "import json; print(json.loads(open('episodes.jsonl').readline())['{}'])"
        self.assertEqual(faults(f'    python3 -c "{read.format("steps")}"\n'), [])
        self.assertIn("KeyError", faults(f'    python3 -c "{read.format("observations")}"\n')[0])
        self.assertIn("no agent", faults(f'    python3 -c "{read.format("seed")}"\n')[0])


class Formats(unittest.TestCase):
    """Blocks that are not commands."""

    def test_blocks_that_parse_pass(self) -> None:
        for text in (
            "```toml\n[run]\nseed = 1\n```\n",
            '```json\n{"a": 1}\n```\n',
            SCRAPES.format("15s") + RATE,
            "```yaml\nservices: {learner: {image: x}}\n```\n",
        ):
            self.assertEqual(faults(text), [], text)

    def test_blocks_that_do_not_parse_are_named(self) -> None:
        for text, said in (
            ("```toml\n[run\n```\n", "a.md:1"),
            ("```json\n{\n```\n", "a.md:1"),
            ("```yaml\na: {\n```\n", "a.md:1"),
            ("```\nwhat is this\n```\n", "give its fence a language"),
            ("    what is this\n", "give its fence a language"),
            ("```yaml\nservices: {learner: {imag: x}}\n```\n", "imag"),
            ("```yaml\nscrape_configs: [{name: x}]\n```\n", "field name not found"),
            (SCRAPES.format("30s") + RATE, "[1m] holds fewer than 4 samples"),
            ("```yaml\nscrape_configs: [{job_name: x}]\n```\n\n" + RATE, "scrapes every 60 s"),
            ("    rate(hrm_learner_run_frames[1m]\n", "hrm_learner_run_frames"),
            ("    sum by (stge) (hrm_learner_stage_seconds_sum)\n", "stge"),
            (
                "```yaml\nkind: Kustomization\nimages: [{name: hrm-impala/learner, newTag: x}]\n```\n",
                "the base has no image hrm-impala/learner",
            ),
        ):
            found = faults(text)
            self.assertEqual(len(found), 1, (text, found))
            self.assertIn(said, found[0], text)


class Names(unittest.TestCase):
    """Paths, links and metrics."""

    def test_names_that_exist_pass(self) -> None:
        for text in (
            "`learner/src/run/mod.rs`, `trainer.rs`, `configs/*.toml`, `deploy/k8s`, `runs/NAME/`, `config.toml`",
            "[a](README.md) [b](https://example.com/x) [c](README.md#two-commands)",
            "`hrm_learner_policy_lag_versions`, `hrm_learner_updates_total` and `namespace:hrm_learner_headroom:ratio`",
        ):
            self.assertEqual(faults(text), [], text)

    def test_names_that_do_not_exist_are_named(self) -> None:
        for text, said in (
            ("`learner/src/nothing.rs`", "there is no learner/src/nothing.rs"),
            ("`nothing.rs`", "there is no file nothing.rs"),
            ("[a](NOTHING.md)", "leads nowhere"),
            ("[a](README.md#nothing)", "leads to no heading"),
            ("`hrm_learner_nothing_total`", "hrm_learner_nothing_total"),
            ("`namespace:hrm_nothing:ratio`", "namespace:hrm_nothing:ratio"),
        ):
            found = faults(text)
            self.assertEqual(len(found), 1, (text, found))
            self.assertIn(said, found[0], text)


if __name__ == "__main__":
    unittest.main()
