"""Whether attention runs in a flash kernel, asked of the backends themselves.

    python benchmarks/flash_attention.py

For images of 384 and 1024 pixels with patches of 16, bfloat16, forward and
backward: of JAX, the names of the kernels in the compiled program; of PyTorch,
the kernels that its profiler saw. Each backend is a process of its own; one
that is not installed, or finds no GPU, says so.
"""

import importlib.util
import os
import subprocess
import sys

HEADS, WIDTH, PATCH = 12, 64, 16
SIZES = (384, 1024)
FLASH = ("fmha", "flash", "cudnn")  # what such kernels are called


def on_jax(tokens):
    """Custom calls of the compiled gradient."""
    import re

    import jax
    import jax.numpy as jnp

    from keras_vit.ops.attention import attend

    if jax.devices()[0].platform != "gpu":
        return None
    query = jnp.ones((1, tokens, HEADS, WIDTH), "bfloat16")

    def loss(query, key, value):
        return attend(query, key, value, WIDTH**-0.5).astype("float32").sum()

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    text = gradient.lower(query, query, query).compile().as_text()
    return set(re.findall(r'custom_call_target="([^"]+)"', text))


def on_torch(tokens):
    """Kernels that ran."""
    import torch

    from keras_vit.ops.attention import attend

    if not torch.cuda.is_available():
        return None
    query = torch.ones(
        (1, tokens, HEADS, WIDTH),
        dtype=torch.bfloat16,
        device="cuda",
        requires_grad=True,
    )
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CUDA]
    ) as profile:
        attend(query, query, query, WIDTH**-0.5).sum().backward()
    return {event.key for event in profile.key_averages()}


def work(backend):
    for size in SIZES:
        tokens = (size // PATCH) ** 2 + 1
        names = {"jax": on_jax, "torch": on_torch}[backend](tokens)
        if names is None:
            print(f"{backend}: no GPU here")
            return
        flash = [n for n in names if any(f in n.lower() for f in FLASH)]
        print(f"{backend}, {size} px, {tokens} tokens: ", end="")
        print("flash: " + ", ".join(flash) if flash else f"no flash: {names}")


def main():
    for backend in ("jax", "torch"):
        if importlib.util.find_spec(backend) is None:
            print(f"{backend} is not installed")
            continue
        subprocess.run(
            [sys.executable, __file__, backend],
            check=True,
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(sys.argv[1])
    else:
        main()
