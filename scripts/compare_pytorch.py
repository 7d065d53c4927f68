#!/usr/bin/env python3
"""Times the same model in PyTorch, eager and compiled, beside the native kernels, on one core.

    python3 -m venv .tools/pytorch
    .tools/pytorch/bin/pip install torch==2.11.0
    .tools/pytorch/bin/python3 scripts/compare_pytorch.py

It runs `cargo bench -p hrm-learner --bench model` before and after its own rounds, and prints the rates of both with
their ratios. `--skip-native` leaves that out. torch.compile needs a C++ compiler. Exit status: 0, or 1 with the reason
on stderr.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import subprocess
import sys
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
SIDE = 11
CELLS = SIDE * SIDE
VOCABULARY, AGENT, ACTIONS = 6, 3, 4
ROUNDS = 7
# Seconds of one side in a round.
ROUND = 0.3
NATIVE = re.compile(r"^model/(\w+)/(\w+) batch +(\d+)(, gradient)?: native ([\d.]+)", re.MULTILINE)


class Small(torch.nn.Module):
    """The preset `small`: convolutions, one segment of two cycles, the read-out at the agent."""

    width, inner, segments, layers = 32, 64, 1, 1

    def __init__(self) -> None:
        super().__init__()
        d, inner = self.width, self.inner
        self.token = normal(VOCABULARY, d)
        self.prefix = normal(1, d)
        self.position = normal(CELLS + 1, d)
        self.blocks = torch.nn.ParameterDict()
        for module in "HL":
            for name, parameter in {
                "kernel": normal(d, d, 3, 3, inputs=9 * d),
                "map": normal(d, d, inputs=d),
                "gate_up": normal(2 * inner, d, inputs=d),
                "down": normal(d, inner, inputs=inner),
            }.items():
                self.blocks[f"{module}_{name}"] = parameter
        self.heads = normal(ACTIONS + 1, d, inputs=d)

    def forward(self, tokens: Tensor, z_h: Tensor, z_l: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens i64 [B, S], zH and zL [B, P, d] with the prefix last -> heads [B, 5], zH, zL; one-step gradient."""
        cells = self.token[tokens] + self.position[1:]
        prefix = (self.prefix + self.position[:1]).expand(len(tokens), 1, -1)
        e = (torch.cat([cells, prefix], 1) * math.sqrt(self.width / 2)).to(dtype)
        blocks = {name: parameter.to(dtype) for name, parameter in self.blocks.items()}
        with torch.no_grad():
            z_l = self.call(blocks, "L", z_l + z_h + e)
            z_l = self.call(blocks, "L", z_l + z_h + e)
            z_h = self.call(blocks, "H", z_h + z_l)
            z_l = self.call(blocks, "L", z_l + z_h + e)
        z_l = self.call(blocks, "L", z_l + z_h + e)
        z_h = self.call(blocks, "H", z_h + z_l)
        agent = (tokens == AGENT).to(torch.int64).argmax(1)
        read = z_h[torch.arange(len(tokens)), agent].float()
        return read @ self.heads.T, z_h, z_l

    def call(self, blocks: dict[str, Tensor], module: str, x: Tensor) -> Tensor:
        """One call of H or L."""
        grid = x[:, :CELLS].view(-1, SIDE, SIDE, self.width).permute(0, 3, 1, 2)
        near = functional.conv2d(grid, blocks[f"{module}_kernel"], padding=1).permute(0, 2, 3, 1)
        mixed = near.reshape(-1, CELLS, self.width) + functional.linear(x[:, CELLS:], blocks[f"{module}_map"])
        mixed = torch.cat([mixed, mixed.float().mean(1, keepdim=True).to(x.dtype)], 1)
        return feed_forward(x + mixed, blocks[f"{module}_gate_up"], blocks[f"{module}_down"])


class Paper(torch.nn.Module):
    """The preset `paper`: four blocks with rotary attention in H and L, eight segments of two cycles."""

    width, inner, segments, layers, head_count = 64, 256, 8, 4, 2

    def __init__(self) -> None:
        super().__init__()
        d, inner = self.width, self.inner
        self.token = normal(VOCABULARY, d)
        self.prefix = normal(1, d)
        self.blocks = torch.nn.ParameterDict()
        for module in "HL":
            for layer in range(self.layers):
                for name, parameter in {
                    "qkv": normal(3 * d, d, inputs=d),
                    "out": normal(d, d, inputs=d),
                    "gate_up": normal(2 * inner, d, inputs=d),
                    "down": normal(d, inner, inputs=inner),
                }.items():
                    self.blocks[f"{module}{layer}_{name}"] = parameter
        self.heads = normal(ACTIONS + 1, d, inputs=d)
        half = d // self.head_count // 2
        turns = torch.arange(CELLS + 1)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", torch.cat([turns.cos()] * 2, 1)[:, None])
        self.register_buffer("sin", torch.cat([-turns.sin(), turns.sin()], 1)[:, None])

    def forward(self, tokens: Tensor, z_h: Tensor, z_l: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens i64 [B, S], zH and zL [B, P, d] -> heads [B, 5], zH, zL; one-step gradient."""
        cells = self.token[tokens]
        e = torch.cat([self.prefix.expand(len(tokens), 1, -1), cells], 1) * math.sqrt(self.width)
        e = e.to(dtype)
        blocks = {name: parameter.to(dtype) for name, parameter in self.blocks.items()}
        for _ in range(self.segments):
            with torch.no_grad():
                z_l = self.call(blocks, "L", z_l + z_h + e)
                z_l = self.call(blocks, "L", z_l + z_h + e)
                z_h = self.call(blocks, "H", z_h + z_l)
                z_l = self.call(blocks, "L", z_l + z_h + e)
            z_l = self.call(blocks, "L", z_l + z_h + e)
            z_h = self.call(blocks, "H", z_h + z_l)
        return z_h[:, -1].float() @ self.heads.T, z_h, z_l

    def call(self, blocks: dict[str, Tensor], module: str, x: Tensor) -> Tensor:
        """One call of H or L."""
        for layer in range(self.layers):
            at = f"{module}{layer}_"
            parts = functional.linear(x, blocks[at + "qkv"]).chunk(3, -1)
            query, key, value = (part.unflatten(-1, (self.head_count, -1)) for part in parts)
            query, key = self.rotate(query), self.rotate(key)
            heads = (part.transpose(1, 2) for part in (query, key, value))
            mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
            x = x + functional.linear(mixed, blocks[at + "out"])
            x = feed_forward(x, blocks[at + "gate_up"], blocks[at + "down"])
        return x

    def rotate(self, x: Tensor) -> Tensor:
        """The rotary position of [B, P, heads, size]."""
        swapped = torch.cat(x.chunk(2, -1)[::-1], -1)
        return x * self.cos.to(x.dtype) + swapped * self.sin.to(x.dtype)


def normal(*shape: int, inputs: int = 0) -> torch.nn.Parameter:
    """Random weights, by LeCun for `inputs`."""
    return torch.nn.Parameter(torch.randn(*shape) / math.sqrt(inputs or shape[-1]))


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-5), in 32 bits."""
    mean_square = x.float().square().mean(-1, keepdim=True)
    return (x * (mean_square + 1e-5).rsqrt()).to(x.dtype)


def feed_forward(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The norm after mixing, then SwiGLU with its residual and norm."""
    x = rms_norm(x)
    gate, up = functional.linear(x, gate_up).chunk(2, -1)
    return rms_norm(x + functional.linear(functional.silu(gate) * up, down))


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
    model = {"small": Small, "paper": Paper}[name]()
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


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-native", action="store_true", help="time PyTorch alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
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
