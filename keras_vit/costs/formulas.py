"""What the parts of a model cost: one formula for each, and their sum.

`cost` adds these up: for a variant from its sizes, for a model from the shapes
of its layers. A multiply-accumulate (MAC) is one product added to a sum in a
matrix product or a convolution. Additions, norms, softmax and other
element-wise work do not count, as in the papers. Every tap of a convolution
counts, also on padding.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a model, for one image.

    `activations` are the numbers that a forward pass keeps for the backward
    pass:

    - the patches, and the tokens with their positions; of a hybrid or a
      ResNet, the images;
    - of a transformer block, both norms' outputs; queries, keys and values;
      the input of the attention's output projection; the inner width of the
      MLP before and after the non-linearity (of a gated one, also the other
      half and the product); and the two residual sums;
    - the attention scores, after the softmax, where no fused kernel recomputes
      them;
    - the last norm's output, the pooled vector, the inner tensors of attention
      pooling as in a block, the representation, the logits;
    - the output of a convolution, unless it goes straight into a sum; the
      output of a norm before or after it, after the ReLU, likewise; the sum of
      a residual unit; and the output of max pooling.

    Copies that a backend makes, masks of dropout, and everything that does not
    depend on the batch (weights, their gradients, the optimizer's moments) do
    not count. In measurements on small Vision Transformers PyTorch kept 4 to
    6 % more, JAX a third more.

    Args:
        parameters: numbers in all weights, without the states of random
            generators.
        macs: multiply-accumulates of a forward pass.
        attention_macs: the part of `macs` in the products of queries with keys
            and of scores with values, which grows with the square of `tokens`;
            the projections are not part of it.
        tokens: length of the sequence, 0 if there is none.
        activations: numbers kept for the backward pass.

    Example:

    >>> cost = keras_vit.cost("B/16")
    >>> cost.macs / 1e9
    17.56...
    >>> print(cost)
    parameters          86,567,656     86.57 M    346.27 MB in float32
    MACs            17,563,828,224     17.56 G
      of attention     715,327,488    715.33 M    4.1 %
    tokens                     197
    activations         29,503,720     29.50 M    118.01 MB in float32
    """

    parameters: int = 0
    macs: int = 0
    attention_macs: int = 0
    tokens: int = 0
    activations: int = 0

    @property
    def attention_share(self) -> float:
        """Share of `attention_macs` in `macs`, in [0, 1]."""
        return self.attention_macs / self.macs if self.macs else 0.0

    def activation_memory(
        self, batch_size: int, bytes_per_number: int = 4
    ) -> int:
        """Returns the bytes of the activations of a training step.

        Args:
            batch_size: images in a step.
            bytes_per_number: 4 for float32, 2 for float16 and bfloat16.

        Returns:
            An int, the bytes.
        """
        return self.activations * batch_size * bytes_per_number

    def __add__(self, other: "Cost") -> "Cost":
        """The cost of two parts in a row; `tokens` is the larger one."""
        return Cost(
            self.parameters + other.parameters,
            self.macs + other.macs,
            self.attention_macs + other.attention_macs,
            max(self.tokens, other.tokens),
            self.activations + other.activations,
        )

    def __mul__(self, times: int) -> "Cost":
        """The cost of several equal parts."""
        return Cost(
            self.parameters * times,
            self.macs * times,
            self.attention_macs * times,
            self.tokens,
            self.activations * times,
        )

    def __str__(self):
        share = f"{100 * self.attention_share:.1f} %"
        rows = (
            ("parameters", self.parameters, _memory(self.parameters)),
            ("MACs", self.macs, ""),
            ("  of attention", self.attention_macs, share),
            ("tokens", self.tokens, ""),
            ("activations", self.activations, _memory(self.activations)),
        )
        width = max(len(f"{number:,}") for _, number, _ in rows)
        lines = (
            f"{name:<16}{number:>{width},}  {_short(number):>10}    {more}"
            for name, number, more in rows
        )
        return "\n".join(line.rstrip() for line in lines)


def _short(number):
    for power, unit in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.2f} {unit}"
    return ""


def _memory(numbers):
    return f"{_short(numbers * 4) or f'{numbers * 4} '}B in float32"


def kept(*shape: int) -> Cost:
    """Returns the cost of a tensor that the backward pass needs.

    Args:
        *shape: its shape, without the batch axis.
    """
    return Cost(activations=math.prod(shape))


def dense(
    positions: int, inputs: int, outputs: int, *, bias: bool = True
) -> Cost:
    """Returns the cost of a dense layer, its output not kept.

    Args:
        positions: number of vectors that go in.
        inputs: width of an input vector.
        outputs: width of an output vector.
        bias: whether the layer adds a bias.
    """
    return Cost((inputs + bias) * outputs, positions * inputs * outputs)


def convolution(
    grid: tuple[int, int],
    kernel_size: tuple[int, int],
    inputs: int,
    outputs: int,
) -> Cost:
    """Returns the cost of a convolution without bias, its output not kept.

    Args:
        grid: rows and columns of the output.
        kernel_size: height and width of the kernel.
        inputs: input channels of a group.
        outputs: output channels.
    """
    kernel = kernel_size[0] * kernel_size[1] * inputs * outputs
    return Cost(kernel, grid[0] * grid[1] * kernel)


def norm(channels: int) -> Cost:
    """Returns the cost of a norm's scale and shift, its output not kept."""
    return Cost(2 * channels)


def attention(
    queries: int,
    keys: int,
    dim: int,
    num_heads: int,
    head_dim: int | None = None,
    *,
    fused: bool = True,
    qk_norm: bool = False,
    output_norm: bool = False,
    num_kv_heads: int | None = None,
    offsets: int = 0,
) -> Cost:
    """Returns the cost of multi-head attention, its output not kept.

    Args:
        queries: number of tokens that attend.
        keys: number of tokens that they attend to.
        dim: width of a token.
        num_heads: number of heads.
        head_dim: width of a head. Defaults to `dim / num_heads`.
        fused: whether no scores are kept.
        qk_norm: whether queries and keys are normed.
        output_norm: whether the concatenated heads are normed.
        num_kv_heads: heads of keys and values. Defaults to `num_heads`.
        offsets: number of embeddings of relative positions, shared by the
            heads; every query is multiplied with all of them.
    """
    head_dim = head_dim or dim // num_heads
    inner = num_heads * head_dim
    products = queries * (2 * keys + offsets) * inner
    cost = Cost(offsets * head_dim, products, attention_macs=products)
    cost += dense(queries, dim, inner) + kept(queries, inner)
    shared = (num_kv_heads or num_heads) * head_dim
    cost += (dense(keys, dim, shared) + kept(keys, shared)) * 2
    if qk_norm:
        cost += norm(head_dim) * 2 + kept(queries, inner) + kept(keys, shared)
    if output_norm:
        cost += norm(inner) + kept(queries, inner)
    if not fused:
        cost += kept(num_heads, queries, keys)
    return cost + kept(queries, inner) + dense(queries, inner, dim)


def mlp(
    positions: int,
    dim: int,
    mlp_dim: int,
    gated: bool = False,
    normed: bool = False,
) -> Cost:
    """Returns the cost of an MLP, its output not kept.

    Args:
        positions: number of tokens.
        dim: width of a token.
        mlp_dim: inner width.
        gated: whether there is a third matrix, as in SwiGLU.
        normed: whether a norm stands before the last matrix.
    """
    # Before and after the non-linearity. A gate adds the other half and the
    # product of both.
    inner = dense(positions, dim, mlp_dim) + kept(positions, mlp_dim) * 2
    if gated:
        inner += dense(positions, dim, mlp_dim) + kept(positions, mlp_dim) * 2
    if normed:
        inner += norm(mlp_dim) + kept(positions, mlp_dim)
    return inner + dense(positions, mlp_dim, dim)


def transformer_block(
    tokens: int, dim: int, attention: Cost, mlp: Cost
) -> Cost:
    """Returns the cost of a pre-norm block.

    Args:
        tokens: length of the sequence.
        dim: width of a token.
        attention: cost of its attention.
        mlp: cost of its MLP.
    """
    norm_or_sum = kept(tokens, dim)
    branches = attention + mlp + (norm(dim) + norm_or_sum * 2) * 2
    return branches + Cost(tokens=tokens)


def attention_pooling(dim: int, attention: Cost, mlp: Cost) -> Cost:
    """Returns the cost of attention pooling.

    Args:
        dim: width of a token.
        attention: cost of its attention, for one query.
        mlp: cost of its MLP, for one token.
    """
    probe = Cost(parameters=dim)
    # The attention's output, the norm's output and the sum.
    return probe + attention + norm(dim) + mlp + kept(dim) * 3


def residual_unit(
    grid: tuple[int, int],
    inputs: int,
    filters: int,
    strides: tuple[int, int],
    preactivation: bool = False,
) -> Cost:
    """Returns the cost of a bottleneck unit.

    Args:
        grid: rows and columns of the input.
        inputs: input channels.
        filters: channels of the 3x3 convolution; the output has four times as
            many.
        strides: strides of the 3x3 convolution, a pair.
        preactivation: whether the norms come before the convolutions.
    """
    outer = 4 * filters
    small = strided(grid, strides)
    projects = inputs != outer or tuple(strides) != (1, 1)
    cost = kept(*small, outer)  # the sum
    if preactivation:
        cost += norm(inputs) + kept(*grid, inputs)
        cost += norm(filters) * 2
    else:
        cost += norm(filters) * 2 + norm(outer)
        cost += kept(*small, outer)  # before the last norm
    cost += convolution(grid, (1, 1), inputs, filters)
    cost += convolution(small, (3, 3), filters, filters)
    cost += convolution(small, (1, 1), filters, outer)
    # Two convolutions and the norms after them.
    cost += kept(*grid, filters) * 2 + kept(*small, filters) * 2
    if projects:
        cost += convolution(small, (1, 1), inputs, outer)
        if not preactivation:
            cost += norm(outer) + kept(*small, outer)
    return cost


def strided(grid: tuple[int, int], strides: tuple[int, int]) -> tuple[int, int]:
    """Returns the rows and columns after a padded stride."""
    (rows, columns), (down, across) = grid, strides
    return -(-rows // down), -(-columns // across)
