"""How it is computed: pure functions of tensors, no layers.

Each file has one formula, its gradient in closed form and what each backend
does instead; no other room names a backend. Read `attention`, then `gelu`,
`norms` and `linear`. `on_torch`, `on_tensorflow` and `torch_updates` are the
kernels of one backend. Change nothing here without `tests/ops`, which holds
values and gradients to the formulas, and `benchmarks/speed.py`.
"""
