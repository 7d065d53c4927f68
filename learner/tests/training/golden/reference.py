#!/usr/bin/env python3
"""Numbers for golden.rs: HRM-Agent's forward pass, written from its description alone.

An implementation of its own in PyTorch (2.11, CPU), deliberately plain: one function per sentence of the
description, one sequence at a time, no fused operators, in 64-bit floats so that the numbers' own error does
not count. Run it to regenerate `golden.safetensors`:

    python3 learner/tests/training/golden/reference.py

The model: a prefix vector and the maze's tokens, row by row; two stacks H and L of four post-norm blocks
(attention with rotary positions, SwiGLU, weightless RMSNorm); a segment is twice [twice zL = L(zL, zH + e),
then zH = H(zH, zL)]; a decision is eight segments; the last token's zH is read out.

What the file holds:

    model.inner.*              the weights under their published names, bf16 (exact: they are rounded first)
    MAZE.tokens                characters of the screen, f32 [2 decisions, 2 sequences, S]
    MAZE.carry                 where the second sequence starts from, bf16 [2 (zH, zL), S + 1, 64]; the first
                               one starts from H_init and L_init
    MAZE.logits, MAZE.value    after every segment, f32 [2 decisions, 8 segments, 2 sequences, 4] and [.., 2]
    MAZE.z                     zH and zL after every segment at every eighth position,
                               f32 [2 decisions, 8 segments, 2 (zH, zL), 2 sequences, positions / 8, 64]
    MAZE.final                 zH and zL at every position after the last segment of the second decision,
                               f32 [2 (zH, zL), 2 sequences, S + 1, 64]

The second decision continues from the end of the first one, on other tokens.
"""

import json
import math
import pathlib
import struct

import torch

HIDDEN, HEADS, LAYERS, SEGMENTS, H_CYCLES, L_CYCLES = 64, 2, 4, 8, 2, 2
INTER = 256  # 4 * 64 * 2 / 3 = 170.7, rounded up to a multiple of 256
STRIDE = 8
# Random weights make the recurrence chaotic: rounding errors grow by half with every segment. Smaller block
# outputs keep them as small as they start, and zH and zL still move by a third of their size a segment.
DAMPING = 0.25

FOUR_ROOMS = [
    "-----------",
    ".....|.....",
    ".....|.....",
    ".....|...>.",
    ".....|.....",
    "|.||||.....",
    ".....|||||.",
    ".....|.....",
    ".@...|.....",
    "...........",
    ".....|.....",
]
RANDOM_MAZE = [
    "|||||||||||||",
    "|...#.......|",
    "|.|.|.|.|.|.|",
    "|.....@.|...|",
    "|.|.|#|.|.|.|",
    "|...|.......|",
    "|.|.|.|.|#|.|",
    "|.......#...|",
    "|.|.|.|.|.|.|",
    "|>..#.......|",
    "|||||||||||||",
]
MAZES = {"four_rooms": FOUR_ROOMS, "random_maze": RANDOM_MAZE}


def weights(generator):
    """Random weights of the published shapes, every one of them rounded to bf16 and kept as f64."""

    def normal(std, *shape):
        return (torch.randn(*shape, generator=generator) * std).bfloat16().double()

    def linear(outputs, inputs, scale=1.0):
        return normal(scale / math.sqrt(inputs), outputs, inputs)

    state = {
        "embed_tokens.embedding_weight": normal(1 / math.sqrt(HIDDEN), 131, HIDDEN),
        "puzzle_emb.weights": normal(1 / math.sqrt(HIDDEN), 1, HIDDEN),
        "lm_head.weight": linear(131, HIDDEN),
        "value_head.weight": linear(1, HIDDEN),
        "q_head.weight": linear(2, HIDDEN),
        "q_head.bias": normal(1, 2),
        "H_init": normal(1, HIDDEN),
        "L_init": normal(1, HIDDEN),
    }
    for module in ("H", "L"):
        for layer in range(LAYERS):
            at = f"{module}_level.layers.{layer}"
            state[f"{at}.self_attn.qkv_proj.weight"] = linear(3 * HIDDEN, HIDDEN)
            state[f"{at}.self_attn.o_proj.weight"] = linear(HIDDEN, HIDDEN, DAMPING)
            state[f"{at}.mlp.gate_up_proj.weight"] = linear(2 * INTER, HIDDEN)
            state[f"{at}.mlp.down_proj.weight"] = linear(HIDDEN, INTER, DAMPING)
    return {f"model.inner.{name}": tensor for name, tensor in state.items()}


def rms_norm(x):
    return x / torch.sqrt((x * x).mean(dim=1, keepdim=True) + 1e-5)


def rotate(x):
    """Rotary embedding of [positions, dimensions]: dimension i turns with i + half."""
    positions, dimensions = x.shape
    half = dimensions // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[:, :half], x[:, half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=1)


def attention(x, qkv_proj, o_proj):
    query, key, value = (x @ qkv_proj.T).split(HIDDEN, dim=1)
    size = HIDDEN // HEADS
    mixed = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = rotate(query[:, part]) @ rotate(key[:, part]).T / math.sqrt(size)
        mixed.append(torch.softmax(scores, dim=1) @ value[:, part])
    return torch.cat(mixed, dim=1) @ o_proj.T


def swiglu(x, gate_up_proj, down_proj):
    gate, up = (x @ gate_up_proj.T).split(INTER, dim=1)
    return (gate * torch.sigmoid(gate) * up) @ down_proj.T


def call(state, module, z, injection):
    """One call of H or L on [positions, HIDDEN]."""
    x = z + injection
    for layer in range(LAYERS):
        block = lambda name: state[f"model.inner.{module}_level.layers.{layer}.{name}.weight"]
        x = rms_norm(x + attention(x, block("self_attn.qkv_proj"), block("self_attn.o_proj")))
        x = rms_norm(x + swiglu(x, block("mlp.gate_up_proj"), block("mlp.down_proj")))
    return x


def decide(state, tokens, z_h, z_l):
    """Yields (zH, zL, logits, value) after each segment of a decision on one sequence."""
    inner = lambda name: state[f"model.inner.{name}"]
    sequence = [inner("puzzle_emb.weights")[0]]
    sequence += [inner("embed_tokens.embedding_weight")[code] for code in tokens]
    e = torch.stack(sequence) * math.sqrt(HIDDEN)
    for _ in range(SEGMENTS):
        for _ in range(H_CYCLES):
            for _ in range(L_CYCLES):
                z_l = call(state, "L", z_l, z_h + e)
            z_h = call(state, "H", z_h, z_l)
        last = z_h[-1]
        yield z_h, z_l, inner("lm_head.weight")[:4] @ last, inner("value_head.weight")[0] @ last


def sequences(rows):
    """Characters [2 decisions, 2 sequences, S]: the maze as drawn and upside down, then each with its
    agent one cell to the left."""
    drawn = ["".join(rows), "".join(rows[::-1])]
    moved = [text.replace(".@", "@.") for text in drawn]
    assert drawn[0] != moved[0]
    return [[[ord(char) for char in text.replace("-", "|")] for text in texts] for texts in (drawn, moved)]


def record(state, rows, generator):
    """Everything the test needs to know about one maze."""
    decisions = sequences(rows)
    positions = len(decisions[0][0]) + 1
    carry = torch.randn(2, positions, HIDDEN, generator=generator).bfloat16()
    initial = [state[f"model.inner.{name}"].expand(positions, HIDDEN) for name in ("H_init", "L_init")]
    start = [initial, [carry[0].double(), carry[1].double()]]

    logits, value, z, final = [], [], [], []
    for sequence, (z_h, z_l) in enumerate(start):
        for tokens in (decision[sequence] for decision in decisions):
            for z_h, z_l, segment_logits, segment_value in decide(state, tokens, z_h, z_l):
                logits.append(segment_logits)
                value.append(segment_value)
                z.append(torch.stack([z_h[::STRIDE], z_l[::STRIDE]]))
        final.append(torch.stack([z_h, z_l]))

    def ordered(recorded):
        """[sequence, decision, segment, ..] to [decision, segment, sequence, ..]"""
        recorded = torch.stack(recorded)
        return recorded.view(2, 2, SEGMENTS, *recorded.shape[1:]).movedim(0, 2)

    return {
        "tokens": torch.tensor(decisions, dtype=torch.float32),
        "carry": carry,
        "logits": ordered(logits),
        "value": ordered(value),
        "z": ordered(z).movedim(2, 3),
        "final": torch.stack(final, dim=1),
    }


def write(path, tensors):
    """The safetensors format: length of the header, the header, the bytes."""
    header, data = {}, b""
    tensors = {name: tensor.float() if tensor.dtype == torch.float64 else tensor for name, tensor in tensors.items()}
    kinds = {torch.float32: ("F32", torch.int32), torch.bfloat16: ("BF16", torch.int16)}
    for name, tensor in tensors.items():
        kind, bits = kinds[tensor.dtype]
        raw = bytes(tensor.contiguous().view(bits).view(-1).view(torch.uint8).tolist())
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    torch.set_grad_enabled(False)
    generator = torch.Generator().manual_seed(20251022)
    state = weights(generator)
    tensors = {name: tensor.bfloat16() for name, tensor in state.items()}
    for maze, rows in MAZES.items():
        for name, tensor in record(state, rows, generator).items():
            tensors[f"{maze}.{name}"] = tensor
    write(pathlib.Path(__file__).with_name("golden.safetensors"), tensors)


if __name__ == "__main__":
    main()
