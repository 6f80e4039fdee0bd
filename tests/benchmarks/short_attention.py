"""Attention for up to 256 tokens on a GPU, as kernels of our own, written in Triton.

    TRITON_INTERPRET=1 python tests/benchmarks/short_attention.py   # right? on any CPU

The fused attentions of PyTorch are made for long sequences: they cut a row of the
weights into pieces, mend the softmax piece by piece, and add the pieces of a gradient
up in float32. The 197 tokens of a ViT fit into one piece. So here

- a row of weights is whole: one maximum, one sum, nothing to mend;
- query, key and value are read where the linear layer wrote them, (B, N, 3 D), and
  their gradient is written there at once: no copies before or after;
- a program holds all queries of one head in the backward pass: no gradient is added up
  between programs, so the result has the same bits each time.

No part of the course, and never imported by it: a last row in the table of
``precision.py``, which shows what is left to gain.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

MAX_TOKENS = 256
LOG2E = 1.4426950408889634  # the GPU's exponential has base 2
FORWARD = {"M": 128, "num_warps": 8}  # the fastest of 5 and 12 tried on an H100
BACKWARD = {"BN": 64, "STAGES": 1, "num_warps": 8}


@triton.jit
def forward_kernel(
    QKV,  # (B, n, 3 H D)
    OUT,  # (B, n, H D)
    LSE,  # (B, H, n): of each row, the logarithm of its sum
    n,
    scale,
    H: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,  # n, rounded up to a power of two
    M: tl.constexpr,  # queries of one program
):
    head_of_all = tl.program_id(1)
    b = (head_of_all // H).to(tl.int64)
    h = head_of_all % H
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.arange(0, N)
    d = tl.arange(0, D)
    base = QKV + b * n * 3 * H * D + h * D
    at = rows[:, None] * (3 * H * D) + d[None, :]
    q = tl.load(base + at, mask=rows[:, None] < n, other=0.0)
    at = columns[:, None] * (3 * H * D) + d[None, :]
    k = tl.load(base + H * D + at, mask=columns[:, None] < n, other=0.0)
    v = tl.load(base + 2 * H * D + at, mask=columns[:, None] < n, other=0.0)
    scores = tl.dot(q, tl.trans(k)) * scale  # the scale holds log2(e)
    scores = tl.where(columns[None, :] < n, scores, float("-inf"))
    largest = tl.max(scores, 1)
    weights = tl.exp2(scores - largest[:, None])
    total = tl.sum(weights, 1)
    out = tl.dot(weights.to(v.dtype), v) / total[:, None]
    at = b * n * H * D + h * D + rows[:, None] * (H * D) + d[None, :]
    tl.store(OUT + at, out.to(v.dtype), mask=rows[:, None] < n)
    tl.store(LSE + (b * H + h) * n + rows, largest + tl.log2(total), mask=rows < n)


@triton.jit
def backward_kernel(
    QKV,
    OUT,
    GRAD,  # of OUT
    LSE,
    RESULT,  # gradient of QKV
    n,
    scale,
    scale_log2,
    H: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
    BN: tl.constexpr,  # keys at a time
    STAGES: tl.constexpr,
):
    head_of_all = tl.program_id(0)
    b = (head_of_all // H).to(tl.int64)
    h = head_of_all % H
    rows = tl.arange(0, N)
    d = tl.arange(0, D)
    base = QKV + b * n * 3 * H * D + h * D
    result = RESULT + b * n * 3 * H * D + h * D
    there = rows[:, None] < n
    packed = rows[:, None] * (3 * H * D) + d[None, :]
    plain = b * n * H * D + h * D + rows[:, None] * (H * D) + d[None, :]
    grad = tl.load(GRAD + plain, mask=there, other=0.0)
    out = tl.load(OUT + plain, mask=there, other=0.0)
    delta = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
    q = tl.load(base + packed, mask=there, other=0.0)
    lse = tl.load(LSE + (b * H + h) * n + rows, mask=rows < n, other=0.0)
    dq = tl.zeros((N, D), tl.float32)
    for start in tl.range(0, n, BN, num_stages=STAGES):
        columns = start + tl.arange(0, BN)
        at = columns[:, None] * (3 * H * D) + d[None, :]
        k = tl.load(base + H * D + at, mask=columns[:, None] < n, other=0.0)
        v = tl.load(base + 2 * H * D + at, mask=columns[:, None] < n, other=0.0)
        # What lies beyond n, in rows and columns, meets zeros below.
        weights = tl.exp2(tl.dot(q, tl.trans(k)) * scale_log2 - lse[:, None])
        dv = tl.dot(tl.trans(weights.to(grad.dtype)), grad)
        to_v = result + 2 * H * D + at
        tl.store(to_v, dv.to(grad.dtype), mask=columns[:, None] < n)
        slope = tl.dot(grad, tl.trans(v)) - delta[:, None]
        slope = (weights * slope).to(grad.dtype)
        dk = tl.dot(tl.trans(slope), q) * scale
        to_k = result + H * D + at
        tl.store(to_k, dk.to(grad.dtype), mask=columns[:, None] < n)
        dq += tl.dot(slope, k)
    tl.store(result + packed, (dq * scale).to(grad.dtype), mask=there)


@torch.library.custom_op("short_attention::forward", mutates_args=())
def short_attention(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Return the mixed values (B, n, D), and each row's logarithm of its sum.

    Args:
        qkv: (B, n, 3 D): query, key and value side by side, heads within each; n up to
            MAX_TOKENS, D / heads a power of two from 16.
        heads: their number.
    """
    qkv = qkv.contiguous()
    B, n, width = qkv.shape
    if n > MAX_TOKENS:
        raise ValueError(f"{n} tokens: this attention is for {MAX_TOKENS} at most")
    D = width // (3 * heads)
    N = max(16, triton.next_power_of_2(n))
    M = min(FORWARD["M"], N)
    out = qkv.new_empty(B, n, heads * D)
    lse = qkv.new_empty(B, heads, n, dtype=torch.float32)
    sizes = {"H": heads, "D": D, "N": N, "M": M, "num_warps": FORWARD["num_warps"]}
    grid = (triton.cdiv(n, M), B * heads)
    forward_kernel[grid](qkv, out, lse, n, D**-0.5 * LOG2E, **sizes)
    return out, lse


@short_attention.register_fake
def _(qkv, heads):
    B, n, width = qkv.shape
    lse = qkv.new_empty(B, heads, n, dtype=torch.float32)
    return qkv.new_empty(B, n, width // 3), lse


@torch.library.custom_op("short_attention::backward", mutates_args=())
def gradient(grad: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, heads: int) -> Tensor:
    """Return the gradient of qkv."""
    grad, qkv = grad.contiguous(), qkv.contiguous()
    B, n, width = qkv.shape
    D = width // (3 * heads)
    result = torch.empty_like(qkv)
    sizes = {"H": heads, "D": D, "N": max(16, triton.next_power_of_2(n))}
    scales = D**-0.5, D**-0.5 * LOG2E
    grid = (B * heads,)
    backward_kernel[grid](qkv, out, grad, lse, result, n, *scales, **sizes, **BACKWARD)
    return result


@gradient.register_fake
def _(grad, qkv, out, lse, heads):
    return torch.empty_like(qkv)


def keep(ctx, inputs, output):
    """Keep what the backward pass needs."""
    qkv, ctx.heads = inputs
    ctx.save_for_backward(qkv, *output)


def backward(ctx, grad, _):
    """Return the gradients of both arguments."""
    return gradient(grad, *ctx.saved_tensors, ctx.heads), None


short_attention.register_autograd(backward, setup_context=keep)


def attend(block, tokens, num_outputs=None):
    """Do what ``MultiheadSelfAttentionBlock.forward`` does, without dropout."""
    if num_outputs is None:
        mixed, _ = short_attention(block.qkv(block.norm(tokens)), block.num_heads)
        return block.projection(mixed)
    query, key, value = block.split_heads(tokens)
    mixed = F.scaled_dot_product_attention(query[:, :, :num_outputs], key, value)
    return block.projection(mixed.transpose(1, 2).flatten(2))


def check(B, n, heads, D, device="cpu", dtype=torch.float32):
    """Return the relative errors of outputs and gradient beside float64's."""
    torch.manual_seed(n)
    qkv = torch.randn(B, n, 3 * heads * D, device=device, dtype=dtype)
    grad = torch.randn(B, n, heads * D, device=device, dtype=dtype)
    exact = qkv.double().requires_grad_()
    query, key, value = exact.unflatten(2, (3, heads, D)).permute(2, 0, 3, 1, 4)
    wanted = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    wanted = wanted.flatten(2)
    wanted.backward(grad.double())
    out, _ = short_attention(qkv.requires_grad_(), heads)
    out.backward(grad)
    pairs = (out.detach(), wanted.detach()), (qkv.grad, exact.grad)
    return [((a.double() - b).norm() / b.norm()).item() for a, b in pairs]


if __name__ == "__main__":
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for n in (1, 5, 16, 17, 65, 197):
        print(n, *check(2, n, 2, 16, device))
