#!/usr/bin/env python3
"""Times the same model in PyTorch, eager and compiled, beside the native kernels, on one core.

    python3 -m venv .tools/pytorch
    .tools/pytorch/bin/pip install torch==2.11.0 numpy
    .tools/pytorch/bin/python3 scripts/compare_pytorch.py

It runs `cargo bench -p hrm-learner --bench model` before and after its own rounds, and prints the rates of both with
their ratios. `--skip-native` leaves that out. `--check RUN` first compares the logits and values with those of
`hrm-learner forward` for a run of either preset, in float32. torch.compile needs a C++ compiler. Exit status: 0, or 1
with the reason on stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

try:
    import torch
    from torch import Tensor
    from torch.nn import functional
except ImportError:
    sys.exit("compare_pytorch: PyTorch is missing; see --help in this file's first lines")

ROOT = Path(__file__).resolve().parent.parent
LEARNER = ROOT / "target" / "release" / "hrm-learner"
SIDE = 11
CELLS = SIDE * SIDE
VOCABULARY, AGENT, ACTIONS = 6, 3, 4
ROUNDS = 7
# Seconds of one side in a round.
ROUND = 0.3
NATIVE = re.compile(r"^model/(\w+)/(\w+) batch +(\d+)(, gradient)?: native ([\d.]+)", re.MULTILINE)


class Model(torch.nn.Module):
    """What the presets share. Tensors have the names of a weights file, with `_` for `.`."""

    width: int
    inner: int
    layers: int
    segments: int
    positions: bool

    def __init__(self) -> None:
        super().__init__()
        d, inner = self.width, self.inner
        shapes = {"embed_token": (VOCABULARY, d), "embed_prefix": (1, d), "policy": (ACTIONS, d), "value": (1, d)}
        if self.positions:
            shapes["embed_position"] = (CELLS + 1, d)
        for module in "hl":
            for layer in range(self.layers):
                mixer = {f"{module}_{layer}_{name}": shape for name, shape in self.mixer().items()}
                mlp = {f"{module}_{layer}_mlp_gate_up": (2 * inner, d), f"{module}_{layer}_mlp_down": (d, inner)}
                shapes |= mixer | mlp
        self.tensors = torch.nn.ParameterDict({name: normal(shape) for name, shape in shapes.items()})

    def mixer(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what mixes the tokens."""
        raise NotImplementedError

    def mix(self, at: str, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        """What the mixer with names from `at` on adds to x, [B, P, d]."""
        raise NotImplementedError

    def aim(self, tokens: Tensor) -> Tensor:
        """The positions to read, i64 [B]."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, z_h: Tensor, z_l: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens i64 [B, S], zH and zL [B, P, d] -> heads [B, 5], zH, zL; one-step gradient."""
        prefix = self.tensors["embed_prefix"].expand(len(tokens), 1, -1)
        e = torch.cat([prefix, self.tensors["embed_token"][tokens]], 1)
        e = (e + self.tensors["embed_position"]) / math.sqrt(2) if self.positions else e
        e = (e * math.sqrt(self.width)).to(dtype)
        weights = {name: tensor.to(dtype) for name, tensor in self.tensors.items()}
        for _ in range(self.segments):
            with torch.no_grad():
                z_l = self.call(weights, "l", z_l + z_h + e)
                z_l = self.call(weights, "l", z_l + z_h + e)
                z_h = self.call(weights, "h", z_h + z_l)
                z_l = self.call(weights, "l", z_l + z_h + e)
            z_l = self.call(weights, "l", z_l + z_h + e)
            z_h = self.call(weights, "h", z_h + z_l)
        read = z_h[torch.arange(len(tokens)), self.aim(tokens)].float()
        return read @ torch.cat([self.tensors["policy"], self.tensors["value"]]).T, z_h, z_l

    def call(self, weights: dict[str, Tensor], module: str, x: Tensor) -> Tensor:
        """One call of H or L."""
        for layer in range(self.layers):
            at = f"{module}_{layer}_"
            x = rms_norm(x + self.mix(at, weights, x))
            gate, up = functional.linear(x, weights[at + "mlp_gate_up"]).chunk(2, -1)
            x = rms_norm(x + functional.linear(functional.silu(gate) * up, weights[at + "mlp_down"]))
        return x


class Small(Model):
    """The preset `small`: convolutions, one segment of two cycles, the read-out at the agent."""

    width, inner, layers, segments, positions = 32, 64, 1, 1, True

    def mixer(self) -> dict[str, tuple[int, ...]]:
        return {"conv_kernel": (self.width, self.width, 3, 3), "conv_prefix": (self.width, self.width)}

    def mix(self, at: str, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        grid = x[:, 1:].view(-1, SIDE, SIDE, self.width).permute(0, 3, 1, 2)
        near = functional.conv2d(grid, weights[at + "conv_kernel"], padding=1).permute(0, 2, 3, 1)
        everywhere = functional.linear(x[:, :1], weights[at + "conv_prefix"])
        mixed = near.reshape(-1, CELLS, self.width) + everywhere
        return torch.cat([mixed.float().mean(1, keepdim=True).to(x.dtype), mixed], 1)

    def aim(self, tokens: Tensor) -> Tensor:
        return (tokens == AGENT).to(torch.int64).argmax(1) + 1


class Paper(Model):
    """The preset `paper`: four blocks with rotary attention in H and L, eight segments of two cycles."""

    width, inner, layers, segments, positions = 64, 256, 4, 8, False
    head_count = 2

    def __init__(self) -> None:
        super().__init__()
        half = self.width // self.head_count // 2
        turns = torch.arange(CELLS + 1)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", torch.cat([turns.cos()] * 2, 1)[:, None])
        self.register_buffer("sin", torch.cat([-turns.sin(), turns.sin()], 1)[:, None])

    def mixer(self) -> dict[str, tuple[int, ...]]:
        return {"attention_qkv": (3 * self.width, self.width), "attention_out": (self.width, self.width)}

    def mix(self, at: str, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        parts = functional.linear(x, weights[at + "attention_qkv"]).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.head_count, -1)) for part in parts)
        heads = (part.transpose(1, 2) for part in (self.rotate(query), self.rotate(key), value))
        mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return functional.linear(mixed, weights[at + "attention_out"])

    def aim(self, tokens: Tensor) -> Tensor:
        return torch.full((len(tokens),), CELLS)

    def rotate(self, x: Tensor) -> Tensor:
        """The rotary position of [B, P, heads, size]."""
        swapped = torch.cat(x.chunk(2, -1)[::-1], -1)
        return x * self.cos.to(x.dtype) + swapped * self.sin.to(x.dtype)


PRESETS = {"small": Small, "paper": Paper}


def normal(shape: tuple[int, ...]) -> torch.nn.Parameter:
    """Random weights, by LeCun."""
    return torch.nn.Parameter(torch.randn(*shape) / math.sqrt(math.prod(shape[1:])))


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-5), in 32 bits."""
    mean_square = x.float().square().mean(-1, keepdim=True)
    return (x * (mean_square + 1e-5).rsqrt()).to(x.dtype)


def rate(batch: int, run: Callable[[], object]) -> float:
    """Decisions per second."""
    began, decisions = time.perf_counter(), 0
    while decisions == 0 or time.perf_counter() - began < ROUND:
        run()
        decisions += batch
    return decisions / (time.perf_counter() - began)


def measure(name: str, batch: int, dtype: torch.dtype, gradient: bool) -> tuple[float, float]:
    """The median rates, eager and compiled, of rounds that alternate."""
    torch.manual_seed(0)
    model = PRESETS[name]()
    compiled = torch.compile(model)
    tokens = torch.arange(batch * CELLS).view(batch, CELLS) * 7 % 3
    tokens[:, CELLS // 2] = AGENT
    z = torch.randn(2, batch, CELLS + 1, model.width, dtype=dtype)

    def forward(of: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
        with torch.no_grad():
            of(tokens, z[0], z[1], dtype)

    def backward(of: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
        heads, _, _ = of(tokens, z[0], z[1], dtype)
        model.zero_grad()
        heads.square().mean().backward()

    run = backward if gradient else forward
    for warm_up in (model, compiled, compiled):
        run(warm_up)
    rounds = [(rate(batch, lambda: run(model)), rate(batch, lambda: run(compiled))) for _ in range(ROUNDS)]
    return statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds)


def native() -> dict[tuple[str, str, int, bool], float]:
    """The native rates, by preset, dtype, batch and whether with the gradient."""
    command = ["cargo", "bench", "--quiet", "--locked", "--package", "hrm-learner", "--bench", "model"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        sys.exit(f"compare_pytorch: {' '.join(command)}: exit status {made.returncode}: {made.stderr.strip()}")
    return {(m[1], m[2], int(m[3]), bool(m[4])): float(m[5]) for m in NATIVE.finditer(made.stdout)}


def learner(*arguments: str) -> str:
    """What hrm-learner prints."""
    made = subprocess.run([LEARNER, *arguments], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        sys.exit(f"compare_pytorch: hrm-learner {arguments[0]}: {made.stderr.strip()}")
    return made.stdout


def weights_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file in f32, with `_` for `.` in their names."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    found = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            numbers = torch.frombuffer(bytearray(data[8 + length + start : 8 + length + end]), dtype=torch.float32)
            found[name.replace(".", "_")] = numbers.view(entry["shape"])
    return found


def check(run: str) -> None:
    """Requires that this file's model and the programs' agree about a run's weights, over two decisions."""
    with tempfile.TemporaryDirectory() as folder:
        learner("export", "--checkpoint", run, "--out", f"{folder}/weights.safetensors")
        weights = weights_of(Path(folder) / "weights.safetensors")
        decisions = [[cell * 7 % 3 for cell in range(CELLS)] for _ in range(2)]
        for decision, agent in zip(decisions, (60, 61)):
            decision[agent] = AGENT
        (Path(folder) / "tokens").write_text("".join(f"{json.dumps(codes)}\n" for codes in decisions), encoding="utf-8")
        said = learner("forward", "--checkpoint", run, "--tokens", f"{folder}/tokens", "--json").splitlines()
    preset = next(name for name, of in PRESETS.items() if of.width == weights["h_init"].numel())
    model = PRESETS[preset]()
    with torch.no_grad():
        for name, tensor in model.tensors.items():
            tensor.copy_(weights[name])
        z_h, z_l = (weights[f"{module}_init"].expand(1, CELLS + 1, -1) for module in "hl")
        for codes, line in zip(decisions, said, strict=True):
            heads, z_h, z_l = model(torch.tensor([codes]), z_h, z_l, torch.float32)
            last = json.loads(line)["segments"][-1]
            expected = torch.tensor([*last["logits"], last["value"]])
            apart = (heads[0] - expected).abs().max().item()
            print(f"{run}: {preset}, logits and value differ by at most {apart:.1e}")
            if not apart < 1e-3 * (1 + expected.abs().max().item()):
                sys.exit("compare_pytorch: this is another model, or one that does not compute in float32")


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-native", action="store_true", help="time PyTorch alone")
    parser.add_argument("--check", metavar="RUN", action="append", default=[], help="compare with a run's outputs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for run in arguments.check:
        check(run)
    print(f"PyTorch {torch.__version__}, one core, decisions per second")
    before = {} if arguments.skip_native else native()
    measured = {}
    for dtype_name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
        for case in (("small", 1, False), ("small", 64, False), ("small", 64, True), ("paper", 8, False)):
            name, batch, gradient = case
            measured[name, dtype_name, batch, gradient] = measure(name, batch, dtype, gradient)
    after = {} if arguments.skip_native else native()
    for case, (eager, compiled) in measured.items():
        name, dtype_name, batch, gradient = case
        line = f"{name:5} {dtype_name:4} batch {batch:>2}{', gradient' if gradient else '':10}"
        line += f": eager {eager:>8.1f}, compiled {compiled:>8.1f}"
        if case in before and case in after:
            ours = (before[case] + after[case]) / 2
            line += f"; native {ours:>8.1f} = {ours / eager:.2f} x eager, {ours / compiled:.2f} x compiled"
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
