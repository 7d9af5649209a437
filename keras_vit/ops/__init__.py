"""How it is computed: pure functions of tensors, no layers.

Each file has one formula, its gradient in closed form and what each backend
does instead. No other room names a backend. Read `attention`, then `gelu`,
`norms`, `linear` and `positions`. `on_torch`, `on_tensorflow` and
`torch_updates` are the kernels of one backend; the environment variable
`KERAS_VIT_PLAIN_OPS=1` turns them off (`plain`). Change nothing here without
`tests/ops`, which compares values and gradients with the formulas, and
`benchmarks/speed.py`.
"""
