"""Exported operations in the small vocabulary: the same function as torch's, however they are written there.

Each graph is evaluated three ways, by torch node by node, by the certifier's enclosures and by the checker's balls
(the latter two where they have rules), and compared with what the function itself returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import seeded
from torch import Tensor, nn
from torch.nn import functional as F
from vocabulary import EVALUATIONS, evaluate, read

from deqops import UnsupportedOperationError
from deqops.graph import ConcreteGraph, MixesProblemsError, check_independent
from deqops.verify._enclosures import Constants, enclose_image
from deqops.verify._midrad import MidRad
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker._refusal import Rejected
from deqops.verify.checker._values import Values

CLOSE = 1e-11
SMALL = 400  # values with more entries are not evaluated in balls
Function = Callable[..., Any]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def closeness(found: Tensor, expected: Tensor) -> Tensor:
    return (found - expected).abs() / (1 + expected.abs())


def assert_vocabulary(graph: ConcreteGraph) -> None:
    assert {node.op for node in graph.nodes} <= set(EVALUATIONS)


def assert_encloses(graph: ConcreteGraph, state: list[Tensor], expected: list[Tensor]) -> None:
    """The certifier's enclosures: around torch's values, and narrow."""
    try:
        images = enclose_image(graph, Constants(graph), [MidRad.exact(leaf) for leaf in state])
    except UnsupportedOperationError:
        return
    for image, truth in zip(images, expected, strict=True):
        off = (image.mid - truth).abs() - image.rad
        assert bool((off <= CLOSE * (1 + truth.abs())).all())
        assert bool((image.rad <= 1e-8 * (1 + truth.abs())).all())


def assert_checked(graph: ConcreteGraph, state: list[Tensor], expected: list[Tensor]) -> None:
    """The same for the checker's balls."""
    if any(math.prod(node.shape) > SMALL for node in graph.nodes):
        return
    try:
        values = Values(graph, [ball.exact(leaf) for leaf in state], frozenset(), watched=frozenset(graph.outputs))
        found = [values.balls(value) for value in graph.outputs]
    except Rejected:
        return
    for image, truth in zip(found, expected, strict=True):
        pairs = zip(image.reshape(-1).tolist(), truth.reshape(-1).tolist(), strict=True)
        assert all(abs(float(entry.mid()) - t) <= CLOSE * (1 + abs(t)) for entry, t in pairs)


def assert_reads(function: Function, *arguments: Tensor, batch_dims: int = 1) -> ConcreteGraph:
    """The function's graph, where it is what the function computes."""
    graph = read(function, *arguments, batch_dims=batch_dims)
    assert_vocabulary(graph)
    check_independent(graph)
    others = [normal(*leaf.shape, seed=5) for leaf in arguments]
    for given in (list(arguments), others):
        result = function(*given)
        results = list(result) if isinstance(result, tuple | list) else [result]
        state = [*given, *(torch.zeros_like(part) for part in results)]
        for found, truth in zip(evaluate(graph, state), [*given, *results], strict=True):
            assert bool((closeness(found, truth) <= CLOSE).all())
        assert_encloses(graph, state, [*given, *results])
        if given is others:
            assert_checked(graph, state, [*given, *results])
    return graph


def module(made: nn.Module, seed: int = 3) -> nn.Module:
    """A module in eval mode with random weights and statistics in float64."""
    made = made.double().eval()
    with torch.no_grad():
        for number, tensor in enumerate([*made.parameters(), *made.buffers()]):
            if tensor.is_floating_point():
                tensor.copy_(0.2 + torch.rand(tensor.shape, generator=seeded(seed + number), dtype=torch.float64))
    return made


def cases(**functions: Function) -> Any:
    return pytest.mark.parametrize("function", functions.values(), ids=functions.keys())


# --------------------------------------------------------------------------------------------------- activations


@cases(
    celu=F.celu,
    celu_alpha=lambda z: F.celu(z, 0.3),
    log_sigmoid=F.logsigmoid,
    softshrink=lambda z: F.softshrink(z, 0.3),
    tanhshrink=F.tanhshrink,
    softsign=F.softsign,
    prelu=module(nn.PReLU()),
    prelu_channels=module(nn.PReLU(4)),
    threshold=lambda z: F.threshold(z, 0.1, 0.1),
    threshold_jump=lambda z: F.threshold(z, 0.1, -3.0),
    hardshrink=lambda z: F.hardshrink(z, 0.3),
    swish=lambda z: torch.sigmoid(2 * z) * z + z * torch.sigmoid(z),
    maximum=lambda z: (
        torch.maximum(z.sin(), z * 0.3) + torch.minimum(z, 2 * z) + torch.maximum(z, torch.ones(3).double())
    ),
    rrelu=nn.RReLU(0.1, 0.4).eval(),
    rrelu_in_place=nn.Sequential(nn.Tanh(), nn.RReLU(inplace=True), nn.AlphaDropout(inplace=True)).eval(),
    alpha_dropout=nn.Sequential(nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5)).eval(),
    dropout_in_place=nn.Sequential(nn.Tanh(), nn.Dropout(0.5, inplace=True), nn.Dropout1d(0.5, inplace=True)).eval(),
    erfc=torch.erfc,
    inverse_hyperbolic=lambda z: torch.asinh(z) + torch.acosh(1 + z.square()) + torch.atanh(0.9 * torch.tanh(z)),
    tangent=lambda z: torch.tan(0.3 * torch.tanh(z)),
    finite=lambda z: torch.nan_to_num(z, nan=0.5) + torch.nan_to_num(z.sin()),
    logaddexp=lambda z: torch.logaddexp(z, 2 * z),
    log2=lambda z: torch.log2(z.abs() + 1) + torch.log10(z.abs() + 1),
    exp2=torch.exp2,
    hyperbolic=lambda z: torch.sinh(z) - torch.cosh(z),
    logit=lambda z: torch.logit(torch.sigmoid(z)) + torch.logit(torch.sigmoid(z), 0.3),
    addcdiv=lambda z: torch.addcdiv(z, z.sin(), z.exp(), value=3),
    angles=lambda z: torch.atan(z) + torch.asin(0.9 * z.sin()) - torch.acos(0.9 * z.cos()) + torch.atan2(z, z.exp()),
    hypotenuse=lambda z: torch.hypot(z, z.exp()),
    fmax=lambda z: torch.fmax(z, 2 * z.sin()) - torch.fmin(z, torch.ones(3).double()),
    powers=lambda z: 2**z + z.exp() ** z.sin() + torch.pow(torch.tensor([0.5, 1.0, 3.0]).double(), z),
    exponents=lambda z: (z.exp() + 1) ** torch.tensor([0.5, 2.0, -1.5]).double() + z ** torch.tensor([3.0]).double(),
    roots=lambda z: z.exp().pow(0.3) + z.abs().add(0.1).pow(-1 / 3) + z.pow(torch.tensor(3.0).double()),
    line=lambda z: z * torch.linspace(-0.3, 0.7, 3, dtype=z.dtype) + torch.linspace(2, 3, 1, dtype=z.dtype),
    parts=lambda z: z.trunc() + z.frac() * z,
    remainders=lambda z: z.remainder(0.7) + z.fmod(0.7) + torch.remainder(z, -0.3) + z.remainder(z.exp()),
    quotients=lambda z: (
        z // 0.7 + torch.div(z, z.exp(), rounding_mode="trunc") + torch.div(z, 0.3, rounding_mode="floor")
    ),
    conditions=lambda z: torch.where((z > 0) ^ (z > 1), z, 2 * z) * torch.where(z.isfinite(), 2, z),
    clamp=lambda z: z.clamp(z.mean(-1, keepdim=True), z.square()) + torch.clamp_min(z, torch.zeros(3).double()),
)
def test_activations(function: Function) -> None:
    assert_reads(function, normal(2, 4, 3))


def test_softsign_is_recognised_and_nothing_else() -> None:
    z = normal(2, 3)
    assert [node.op for node in read(F.softsign, z).nodes] == ["softsign"]
    assert [node.op for node in read(lambda z: z / (z.abs() + 1), z).nodes] == ["softsign"]
    for other in (
        lambda z: z / (2 + z.abs()),
        lambda z: (2 * z) / (1 + z.abs()),
        lambda z: z / (1 + torch.relu(z)),
        lambda z: z / (z.abs() + torch.ones(3).double()),
    ):
        assert "softsign" not in [node.op for node in assert_reads(other, z).nodes]


def test_swish_is_recognised_and_nothing_else() -> None:
    z = normal(2, 3)
    assert [node.op for node in read(lambda z: z * z.sigmoid(), z).nodes] == ["silu"]
    assert "silu" not in [node.op for node in assert_reads(lambda z: (2 * z) * z.sigmoid(), z).nodes]


@pytest.mark.parametrize(
    "jump", [lambda z: F.hardshrink(z), lambda z: F.threshold(z, 0.1, 0.0)], ids=["hardshrink", "threshold"]
)
def test_jumps_are_named_by_certify(jump: Function) -> None:
    from deqops.verify import Global, certify

    certificate = certify(lambda z: 0.1 * jump(z), normal(2, 3), region=Global())
    assert "jump" in certificate.reason
    assert "shrink" in certificate.reason or "threshold" in certificate.reason


# ------------------------------------------------------------------------------------------------------- pooling


@cases(
    max1d=lambda z: F.max_pool1d(z, 3, 2, 1),
    max1d_ceil=lambda z: F.max_pool1d(z, 2, 3, ceil_mode=True),
    max1d_dilated=lambda z: F.max_pool1d(z, 2, 1, 1, dilation=3),
    max1d_places=lambda z: F.max_pool1d(z, 3, return_indices=True)[0],
    max1d_negative=lambda z: F.max_pool1d(z - 9, 4, 4, 2),
    adaptive_max1d=lambda z: F.adaptive_max_pool1d(z, 3),
    avg1d=lambda z: F.avg_pool1d(z, 3, 2, 1),
    avg1d_ceil=lambda z: F.avg_pool1d(z, 2, 3, ceil_mode=True),
    avg1d_ceil_padded=lambda z: F.avg_pool1d(z, 4, 3, 2, ceil_mode=True),
    avg1d_inside=lambda z: F.avg_pool1d(z, 3, 2, 1, count_include_pad=False),
    adaptive_avg1d=lambda z: F.adaptive_avg_pool1d(z, 3),
    adaptive_avg1d_one=lambda z: F.adaptive_avg_pool1d(z, 1),
    adaptive_avg1d_more=lambda z: F.adaptive_avg_pool1d(z, 9),
    area=lambda z: F.interpolate(z, size=4, mode="area"),
    unfold=lambda z: z.unfold(-1, 3, 2),
)
@pytest.mark.parametrize("size", [4, 7])
def test_pooling_along_one_dimension(function: Function, size: int) -> None:
    assert_reads(function, normal(2, 2, size))


@cases(
    max2d=lambda z: F.max_pool2d(z, (3, 2), (2, 1), (1, 0)),
    max2d_ceil=lambda z: F.max_pool2d(z, 2, ceil_mode=True),
    max2d_places=lambda z: F.max_pool2d(z, 2, return_indices=True)[0],
    adaptive_max2d=lambda z: F.adaptive_max_pool2d(z, (2, 3)),
    avg2d=lambda z: F.avg_pool2d(z, 3, 1, 1),
    avg2d_inside=lambda z: F.avg_pool2d(z, 3, 1, 1, count_include_pad=False),
    avg2d_ceil=lambda z: F.avg_pool2d(z, 2, ceil_mode=True),
    avg2d_divisor=lambda z: F.avg_pool2d(z, 2, 1, divisor_override=3),
    adaptive_avg2d=lambda z: F.adaptive_avg_pool2d(z, (2, None)),
    lp=lambda z: F.lp_pool2d(z.abs() + 1, 2, 2),
    im2col=lambda z: F.unfold(z, (2, 3), dilation=(2, 1), padding=(1, 0), stride=2),
    col2im=lambda z: F.fold(z.reshape(2, 2, 15), (5, 3), (2, 1), dilation=(2, 1), padding=(1, 0)),
    col2im_strided=lambda z: F.fold(z.flatten(1)[:, :24].reshape(2, 6, 4), (6, 4), (3, 2), padding=1, stride=3),
    local_response=nn.LocalResponseNorm(2),
)
def test_pooling_along_two_dimensions(function: Function) -> None:
    assert_reads(function, normal(2, 2, 5, 3))


@cases(
    max3d=lambda z: F.max_pool3d(z, 2, 1, 1),
    avg3d=lambda z: F.avg_pool3d(z, (2, 1, 2), 1, (1, 0, 1)),
    adaptive_avg3d=lambda z: F.adaptive_avg_pool3d(z, (2, 1, 3)),
    adaptive_max3d=lambda z: F.adaptive_max_pool3d(z, 2),
)
def test_pooling_along_three_dimensions(function: Function) -> None:
    assert_reads(function, normal(2, 1, 3, 2, 4))


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("ceil", [False, True])
def test_the_number_of_windows_is_that_of_torch(size: int, ceil: bool) -> None:
    from deqops.graph._rules_pooling import _outputs

    for kernel in (1, 2, 3, 5):
        for stride in (1, 2, 3, 4):
            for padding in range(kernel // 2 + 1):
                if size + 2 * padding < kernel:
                    continue
                x = torch.zeros(1, 1, size)
                expected = F.max_pool1d(x, kernel, stride, padding, ceil_mode=ceil).shape[-1]
                assert _outputs(size, kernel, stride, padding, 1, ceil) == expected


# ---------------------------------------------------------------------------------------------------- resampling


@cases(
    nearest=lambda z: F.interpolate(z, scale_factor=2),
    nearest_down=lambda z: F.interpolate(z, scale_factor=0.5),
    nearest_size=lambda z: F.interpolate(z, size=11),
    nearest_factor=lambda z: F.interpolate(z, scale_factor=1.7),
    exact=lambda z: F.interpolate(z, scale_factor=1.5, mode="nearest-exact"),
    exact_size=lambda z: F.interpolate(z, size=3, mode="nearest-exact"),
    linear=lambda z: F.interpolate(z, scale_factor=2, mode="linear"),
    linear_down=lambda z: F.interpolate(z, scale_factor=0.5, mode="linear"),
    linear_size=lambda z: F.interpolate(z, size=9, mode="linear"),
    linear_corners=lambda z: F.interpolate(z, size=9, mode="linear", align_corners=True),
    linear_one=lambda z: F.interpolate(z, size=1, mode="linear", align_corners=True),
    linear_same=lambda z: F.interpolate(z, scale_factor=1.125, mode="linear"),
    repeat_interleave=lambda z: z.repeat_interleave(2, -1),
)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_resampling_along_one_dimension(function: Function, size: int) -> None:
    if size == 1 and function(torch.zeros(1, 1, 2)).shape[-1] == 1:
        return
    assert_reads(function, normal(2, 2, size))


@cases(
    nearest=lambda z: F.interpolate(z, size=(3, 7)),
    exact=lambda z: F.interpolate(z, scale_factor=(2.0, 1.5), mode="nearest-exact"),
    bilinear=lambda z: F.interpolate(z, scale_factor=2, mode="bilinear"),
    bilinear_corners=lambda z: F.interpolate(z, size=(7, 2), mode="bilinear", align_corners=True),
    bicubic=lambda z: F.interpolate(z, scale_factor=2, mode="bicubic"),
    bicubic_size=lambda z: F.interpolate(z, size=(3, 7), mode="bicubic"),
    bicubic_corners=lambda z: F.interpolate(z, size=(7, 2), mode="bicubic", align_corners=True),
    bicubic_same=lambda z: F.interpolate(z, size=(4, 5), mode="bicubic"),
    bicubic_factor=lambda z: F.interpolate(z, scale_factor=1.125, mode="bicubic"),
    default=lambda z: torch.ops.aten.upsample_bilinear2d(z, [5, 7], False, 1.25, 1.5),
    shuffle=lambda z: F.pixel_shuffle(z.repeat(1, 2, 1, 1), 2),
    unshuffle=lambda z: F.pixel_unshuffle(z[..., :4], 2),
    channels=lambda z: F.channel_shuffle(z.repeat(1, 3, 1, 1), 3),
    reflect=lambda z: F.pad(z, (1, 2, 3, 1), mode="reflect"),
)
def test_resampling_along_two_dimensions(function: Function) -> None:
    assert_reads(function, normal(2, 2, 4, 5))


@cases(
    nearest=lambda z: F.interpolate(z, scale_factor=2),
    trilinear=lambda z: F.interpolate(z, scale_factor=2, mode="trilinear"),
    reflect=lambda z: F.pad(z, (1, 1, 0, 1, 1, 0), mode="reflect"),
    replicate=lambda z: F.pad(z, (1, 2, 0, 1, 2, 0), mode="replicate"),
)
def test_resampling_along_three_dimensions(function: Function) -> None:
    assert_reads(function, normal(2, 1, 2, 3, 2))


def test_a_scale_factor_without_exact_weights_is_refused() -> None:
    with pytest.raises(UnsupportedOperationError, match="no ratios of integers"):
        read(lambda z: F.interpolate(z, scale_factor=1.3, mode="bicubic"), normal(2, 1, 4, 4))


@pytest.mark.parametrize("mode", ["linear", "bicubic"])
def test_weights_of_an_interpolation_add_up_to_one_exactly(mode: str) -> None:
    from deqops.graph._rules_resampling import _cubic, _linear, _source

    rule = {"linear": _linear, "bicubic": _cubic}[mode]
    for size, outputs in [(1, 4), (3, 7), (7, 3), (224, 447)]:
        for corners in (False, True):
            for place in range(outputs):
                assert sum(rule(_source(place, size, outputs, None, corners), size).values()) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_coarse_dtype_holds_the_weights_all_the_same(dtype: torch.dtype) -> None:
    """The numerators need more bits than the dtype has, and are multiplied in float64."""
    z = normal(2, 1, 3, 3).to(dtype)
    graph = read(lambda z: F.interpolate(z, size=(61, 331), mode="bicubic"), z)
    assert "cast" in {node.op for node in graph.nodes}
    exact = F.interpolate(z.double(), size=(61, 331), mode="bicubic")
    (_, image) = enclose_image(graph, Constants(graph), [MidRad.exact(z.double()), MidRad.exact(exact)])
    assert bool(((image.mid - exact).abs() <= image.rad + CLOSE).all())


# -------------------------------------------------------------------------------------------- attention and cells

KEYS, W = normal(4, 5), normal(4, 5)
CAUSAL = torch.ones(3, 3, dtype=torch.bool).tril()
ADDED = torch.zeros(3, 3).double().masked_fill(~CAUSAL, -math.inf) + 0.3


@cases(
    plain=lambda z: F.scaled_dot_product_attention(z, z.sin(), z.cos()),
    square=lambda z: F.scaled_dot_product_attention(z[..., :4], z[..., 1:5], z),
    scale=lambda z: F.scaled_dot_product_attention(z, z, z, scale=0.3),
    causal=lambda z: F.scaled_dot_product_attention(z, z, z, is_causal=True),
    mask=lambda z: F.scaled_dot_product_attention(z, z, z, attn_mask=CAUSAL),
    added=lambda z: F.scaled_dot_product_attention(z, z, z, attn_mask=ADDED),
    shorter=lambda z: F.scaled_dot_product_attention(z[:, :2], z, z, is_causal=True),
    constant_keys=lambda z: F.scaled_dot_product_attention(z, KEYS, KEYS.sin()),
    heads=lambda z: F.scaled_dot_product_attention(z[:, None], z[:, None, :2].expand(2, 3, 2, 5), z[:, None, :2]),
    grouped=lambda z: F.scaled_dot_product_attention(
        torch.stack([z, z.sin(), 2 * z, z.cos()], 1),
        torch.stack([z, -z], 1),
        torch.stack([z.tanh(), z], 1),
        enable_gqa=True,
    ),
    grouped_alone=lambda z: F.scaled_dot_product_attention(z[:, None], z[:, None], z[:, None], enable_gqa=True),
)
def test_attention(function: Function) -> None:
    assert_reads(function, normal(2, 3, 5))


def test_attention_that_is_no_fixed_map_or_undefined_is_refused() -> None:
    z, nothing = normal(2, 3, 5), torch.zeros(3, 3, dtype=torch.bool)
    with pytest.raises(UnsupportedOperationError, match="masks a whole row"):
        read(lambda z: F.scaled_dot_product_attention(z, z, z, attn_mask=nothing), z)
    with pytest.raises(AssertionError, match="dropout"):
        read(lambda z: F.scaled_dot_product_attention(z, z, z, dropout_p=0.5), z)


HEADS = module(nn.MultiheadAttention(6, 2, batch_first=True))
FIRST = module(nn.MultiheadAttention(6, 3))
OTHER = module(nn.MultiheadAttention(6, 2, kdim=4, vdim=4, batch_first=True, add_bias_kv=True, add_zero_attn=True))
PADDED = torch.tensor([[False, False, True], [False, False, False]])
BLOCKS = [
    module(nn.TransformerEncoderLayer(6, 2, 4, batch_first=first, norm_first=norm_first, activation=act))
    for first, norm_first, act in [(True, False, "relu"), (True, True, "gelu")]
]


@cases(
    heads=lambda z: HEADS(z, z, z, need_weights=False)[0],
    weights=lambda z: HEADS(z, z, z),
    each_weight=lambda z: HEADS(z, z, z, average_attn_weights=False),
    masked=lambda z: HEADS(z, z, z, attn_mask=~CAUSAL, need_weights=False)[0],
    masked_weights=lambda z: HEADS(z, z, z, attn_mask=~CAUSAL)[0],
    padded=lambda z: HEADS(z, z, z, key_padding_mask=PADDED)[0],
    both=lambda z: HEADS(z, z, z, key_padding_mask=PADDED, attn_mask=~CAUSAL, need_weights=False)[0],
    seconds_first=lambda z: FIRST(*(z.transpose(0, 1),) * 3)[0].transpose(0, 1),
    crossed=lambda z: OTHER(z, z[:, 1:, :4], z[:, 1:, :4], need_weights=False)[0],
    after=lambda z: BLOCKS[0](z),
    before=lambda z: BLOCKS[1](z),
    causal=lambda z: BLOCKS[1](z, src_mask=nn.Transformer.generate_square_subsequent_mask(3).double(), is_causal=True),
)
def test_multi_head_attention_and_transformer_layers(function: Function) -> None:
    """Merged batches and heads: the problems are kept apart, which `assert_reads` establishes."""
    assert_reads(function, normal(2, 3, 6))


GRU, LSTM = module(nn.GRUCell(3, 3)), module(nn.LSTMCell(3, 3))
TANH, RELU = module(nn.RNNCell(3, 3)), module(nn.RNNCell(3, 3, bias=False, nonlinearity="relu"))
BILINEAR = module(nn.Bilinear(3, 3, 4))


@cases(
    gru=lambda z: GRU(z.sin(), z),
    lstm=lambda z: LSTM(z.sin(), (z, z.cos())),
    tanh=lambda z: TANH(z.sin(), z),
    relu=lambda z: RELU(z.sin(), z),
    bilinear=lambda z: BILINEAR(z, z.sin()),
    bilinear_constant=lambda z: BILINEAR(z, torch.ones(2, 3).double()),
)
def test_cells(function: Function) -> None:
    assert_reads(function, normal(2, 3))
    assert_reads(lambda z: function(z.repeat(2, 1))[0], normal(1, 3), batch_dims=0)


SEQUENCES = {
    "gru": nn.GRU(3, 2, batch_first=True),
    "gru_deep": nn.GRU(3, 2, num_layers=2, bias=False, bidirectional=True, batch_first=True),
    "lstm": nn.LSTM(3, 2, num_layers=2, batch_first=True),
    "lstm_projected": nn.LSTM(3, 5, num_layers=2, proj_size=2, bidirectional=True, batch_first=True),
    "lstm_projected_unbiased": nn.LSTM(3, 5, proj_size=2, bias=False, batch_first=True),
    "tanh": nn.RNN(3, 2, bidirectional=True, batch_first=True),
    "relu": nn.RNN(3, 2, nonlinearity="relu", batch_first=True),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_recurrent_layers(name: str) -> None:
    layer = module(SEQUENCES[name])

    def ends(z: Tensor) -> list[Tensor]:
        output, last = layer(z)
        return [output, *(part.transpose(0, 1) for part in (last if isinstance(last, tuple) else (last,)))]

    assert_reads(ends, normal(2, 4, 3))


@cases(
    diagonal=lambda z: z.diagonal(1, 1, 2) + torch.trace(z[:, 0]),
    embedded=lambda z: (torch.diag_embed(z), torch.diag_embed(z, dim1=1, dim2=3)),
    embedded_beside=lambda z: (torch.diag_embed(z, 2), torch.diag_embed(z, -1, dim1=1, dim2=3)),
    tiles=lambda z: z.tile(2) + z.tile(1, 1, 1, 2)[0] + z.ravel().tile(2, 2)[1, :8].sum(),
    grids=lambda z: (
        *torch.meshgrid(z[0, 0], z[0, 1, :2], indexing="ij"),
        *torch.meshgrid(z[0, 0], z[0, 1, :2], indexing="xy"),
    ),
    broadcast=lambda z: torch.broadcast_tensors(z, z[0, 0]),
    summed=lambda z: torch.addbmm(W.T[:3, :], z, W.T[None, :4, :].expand(3, 4, 4), beta=0.5, alpha=2),
    written=lambda z: z.index_copy(1, torch.tensor([2, 0]), z[:, :2].sin()),
    logarithms=lambda z: z.logcumsumexp(1),
    running=lambda z: z.cummax(1)[0] + z.cummin(-1).values,
    outer=lambda z: torch.outer(z[:, 0, 0], z[0, 1]),
    tensordot=lambda z: torch.tensordot(z, W, 1) + torch.inner(z, W.T)[..., :5],
    tensordot_pairs=lambda z: torch.tensordot(z, KEYS.expand(3, 4, 5), ([2, 1], [1, 0])),
    cross=lambda z: torch.linalg.cross(z[..., :3], z[..., 1:].sin()),
    stacked=lambda z: torch.hstack([z, z.sin()]) * torch.dstack([z, z.cos()]).repeat(1, 2, 1)[..., :4],
    columns=lambda z: torch.column_stack([z[:, 0, 0], z[:, 1]]),
    distances=lambda z: torch.cdist(z, z.sin()) + torch.cdist(z, z.cos(), p=1.0),
    steps=lambda z: torch.slice_scatter(z, z[:, ::2].sin(), 1, 0, None, 2),
    dtype=lambda z: z.softmax(-1, dtype=torch.float64) + z.sum(-1, keepdim=True, dtype=torch.float64),
)
def test_rearranged_products(function: Function) -> None:
    assert_reads(function, normal(3, 3, 4), batch_dims=0)


def test_a_long_vector_beside_the_diagonal_is_left_alone() -> None:
    """The matrix that puts it there would take gigabytes."""
    graph = read(lambda z: torch.diag_embed(z, 1), torch.zeros(1, 2000, dtype=torch.float64))
    assert any(node.op == "aten.diag_embed.default" for node in graph.nodes)


def test_another_dtype_is_a_cast_first() -> None:
    graph = read(lambda z: z.softmax(-1, dtype=torch.float64), normal(2, 3).float())
    assert [node.op for node in graph.nodes] == ["cast", "softmax"]


def written(z: Tensor) -> Tensor:
    y = torch.zeros_like(z)
    y[:, 0] = z[:, 1]
    y[:, 1:3] = z[:, :2] * 2
    y[:, 2, ::2] = 1
    y[..., -1] += z[..., 0]
    return y


def test_writing_into_slices() -> None:
    assert_reads(written, normal(2, 3, 4))


def test_a_condition_on_constants_writes_one_number() -> None:
    weight = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)

    def function(z: Tensor) -> Tensor:
        inverse = 1 / weight
        inverse = inverse.masked_fill(inverse == math.inf, 0.0)
        return z * torch.index_put(inverse, (inverse > 0.7,), z.new_full((), 3.0))

    assert_reads(function, normal(2, 3))


def counted_positions(z: Tensor) -> Tensor:
    """Positions as image models make them: sums of a mask, in the dtype of the state."""
    mask = torch.ones(z.shape[1:], dtype=torch.bool)
    mask[0, 1] = False
    return z * mask.cumsum(1, dtype=z.dtype) + z.cumsum(1, dtype=z.dtype)


def test_sums_of_known_integers_are_known() -> None:
    graph = assert_reads(counted_positions, normal(2, 3, 4))
    assert sum(node.op == "matmul" for node in graph.nodes) == 1


def test_sums_that_integers_do_not_hold_are_not_known() -> None:
    """int64 wraps around to 0 here."""
    huge = torch.full((3,), 2**62)
    graph = read(lambda z: z * (4 * huge).cumsum(0, dtype=z.dtype) + z * huge.cumsum(0, dtype=z.dtype), normal(2, 3))
    assert "aten.cumsum.default" in {node.op for node in graph.nodes}


def without_casts(z: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        y = torch.tanh(z @ KEYS.mT[:5, :3].contiguous())
        with torch.no_grad():
            y = y.sin()
    return y


def with_casts(z: Tensor) -> Tensor:
    with torch.autocast("cpu"):
        return torch.tanh(z)


def test_a_block_that_switches_autocasting_off_is_its_operations() -> None:
    assert_reads(without_casts, normal(2, 3, 5))
    with pytest.raises(UnsupportedOperationError, match="without autocasting"):
        read(with_casts, normal(2, 3, 5))


@pytest.mark.parametrize(
    "function",
    [lambda z: z.sum(0), lambda z: z.softmax(-1), lambda z: z.amax(0, keepdim=True), lambda z: z.max(0).values],
)
def test_a_dimension_of_a_single_number_is_refused_by_name(function: Function) -> None:
    """torch takes 0 and -1 for one, which no shape has: rules for it would look for its size."""
    with pytest.raises(UnsupportedOperationError, match="a single number, which has none"):
        read(function, torch.tensor(0.5, dtype=torch.float64), batch_dims=0)


MASK = nn.Parameter(torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64), requires_grad=False)


def masked_by_numbers(z: Tensor) -> Tensor:
    """A mask of floating numbers made a condition, as language models do."""
    keep = MASK.bool()
    both = (keep & ~keep[:, :1]) | (keep[:1] & (MASK > 0.5))
    return z.masked_fill(~keep, -3.0) + torch.where(both, z, z.sin())


def test_numbers_as_conditions() -> None:
    assert_reads(masked_by_numbers, normal(3, 2, 3))


# -------------------------------------------------------------------------------------------------------- einsum


EQUATIONS = """bij,jk->bik bij,jk bij,ik->bjk bij,bkj->bik bij,bkj->bk bij,bij->b bij,bij->bij bij,bik->bijk
bij,bjk->bik bij,kl->bijkl bij,j->bi bij,k->bj ...ij,jk->...ik bij->bji bij->b b...->b... bij,bkj,kl->bil
bij,jk,bkl->bil ...ij,...kj->...ik bij,bkl->bjl bii->bi bii->b bijj,jk->bik bij,jj->bij biij,jkj->bk"""


@pytest.mark.parametrize("equation", EQUATIONS.split())
@pytest.mark.parametrize("swap", [False, True])
def test_einsum(equation: str, swap: bool) -> None:
    """Constants beside the state and products of states, on either side."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    sizes = {"b": 2, "i": 3, "j": 4, "k": 5, "l": 2}
    order = list(range(len(terms)))[:: -1 if swap else 1]
    equation = ",".join(terms[k] for k in order) + arrow + right

    shapes = [[2, 3, 4] if t == "b..." else [sizes[name] for name in t.replace("...", "b")] for t in terms]
    constants = [normal(*shape, seed=number) for number, shape in enumerate(shapes)]

    def function(z: Tensor) -> Tensor:
        operands = []
        for number, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
            if "b" in term.replace("...", "b"):
                flat = (z * (number + 1)).sin().repeat(1, 10)[:, : math.prod(shape) // 2]
                operands.append(flat.reshape(shape))
            else:
                operands.append(constants[number])
        return torch.einsum(equation, *(operands[k] for k in order))

    result = function(normal(2, 12))
    kept = bool(result.ndim) and result.shape[0] == 2 and (not arrow or right.startswith(("b", "...")))
    graph = assert_reads(function, normal(2, 12), batch_dims=1 if kept and arrow else 0)
    assert not {node.op for node in graph.nodes} & {"div"}


def test_a_constant_matrix_in_einsum_stays_a_matrix() -> None:
    """So that its norm bounds the product: no batch of matrices, whichever side it stands on."""
    for equation, operands in (("bij,jk->bik", lambda z: (z, W)), ("kj,bij->bik", lambda z: (W.T, z))):
        graph = read(lambda z, e=equation, f=operands: torch.einsum(e, *f(z)), normal(2, 3, 4))
        (product,) = [node for node in graph.nodes if node.op == "matmul"]
        assert len(graph.shape(product.operands[1])) == 2
        assert product.operands[1] not in graph.state_dependent


@pytest.mark.parametrize("equation", ["bij,bkj->bil", "bij->bb"])
def test_an_einsum_that_is_not_understood_is_refused(equation: str) -> None:
    from deqops.graph._lowering import Dynamic, Lowering
    from deqops.graph._program import Program
    from deqops.graph._rules_contraction import _einsum

    low = Lowering(Program((), (), {}, (), ()), source="aten.einsum.default")
    ranks = [len(term) for term in equation.split("->")[0].split(",")]
    items = [Dynamic(n, torch.empty((3,) * rank, device="meta")) for n, rank in enumerate(ranks)]
    with pytest.raises(UnsupportedOperationError, match="einsum"):
        _einsum(low, {"equation": equation, "tensors": items})


# ---------------------------------------------------------------------------------------------------- statistics


@cases(
    norm2=lambda z: torch.linalg.vector_norm(z, dim=-1),
    norm1=lambda z: torch.linalg.vector_norm(z, 1, (1, 2), keepdim=True),
    norms=lambda z: torch.linalg.vector_norm(z, 3, -1) + z.norm(p=2.5, dim=-1) + torch.linalg.vector_norm(z, 1.2, -1),
    norm_inf=lambda z: torch.linalg.vector_norm(z, math.inf, -1),
    norm_least=lambda z: torch.linalg.vector_norm(z, -math.inf, -1),
    old_norm=lambda z: z.norm(dim=1) + z.norm(p=1, dim=1),
    linalg_norm=lambda z: torch.linalg.norm(z, dim=(1, 2)) + torch.linalg.norm(z, 1, dim=-1).sum(-1),
    normalised=lambda z: F.normalize(z, dim=-1) + F.normalize(z, p=1, dim=1),
    cosine=lambda z: F.cosine_similarity(z, z.sin(), dim=-1) + F.cosine_similarity(z, torch.ones(4).double(), dim=-1),
    weight_norm=module(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))),
    variance=lambda z: z.var(-1) + z.var((1, 2), correction=0, keepdim=True)[..., 0] + z.std(-1, unbiased=False),
    deviation=lambda z: z / (z.std(-1, keepdim=True) + 1) + torch.std_mean(z, -1, keepdim=True)[1],
    both=lambda z: torch.var_mean(z, dim=(1, 2), correction=2),
    largest=lambda z: z.amax(-1) + z.max(-1)[0] - z.min(1, keepdim=True).values[..., :3].sum(-1) + z.aminmax(dim=-1)[1],
    logsumexp=lambda z: z.logsumexp((1, 2)) - z.logsumexp(1, keepdim=True)[..., 0, 0],
    log_softmax=lambda z: F.log_softmax(z, 1) + F.softmin(z, -1),
    products=lambda z: z.prod(-1, keepdim=True) + z.cumprod(1),
)
def test_statistics(function: Function) -> None:
    assert_reads(function, normal(2, 3, 4))


@cases(
    std=lambda z: z.std() + z.var() + z,
    max=lambda z: z.max() - z.min() + z,
    prod=lambda z: z.prod() * z,
    norm=lambda z: z / torch.linalg.norm(z) + z.norm(),
)
def test_statistics_of_all_entries(function: Function) -> None:
    assert_reads(function, normal(3, 4), batch_dims=0)


@cases(
    instances=module(nn.InstanceNorm2d(2)),
    affine=module(nn.InstanceNorm2d(2, affine=True)),
    training=nn.InstanceNorm2d(2, affine=True).double().train(),
    running=module(nn.InstanceNorm2d(2, affine=True, track_running_stats=True)),
    batch_norm=module(nn.BatchNorm2d(2)),
)
def test_normalisations_of_images(function: Function) -> None:
    assert_reads(function, normal(2, 2, 4, 3))


def test_statistics_of_the_batch_are_no_fixed_map() -> None:
    from deqops.graph import trace

    z = normal(2, 2, 4, 3)
    assert trace(nn.BatchNorm2d(2).double().train(), z).impure
    assert trace(nn.InstanceNorm2d(2, track_running_stats=True).double().train(), z).impure
    assert not trace(nn.InstanceNorm2d(2).double().train(), z).impure


def test_statistics_that_are_not_kept_are_a_fixed_map_that_mixes_problems() -> None:
    """Of a single problem, or of weights that are standardised by them, there is nothing to mix."""
    z, layer = normal(2, 2, 4, 3), module(nn.BatchNorm2d(2, track_running_stats=False))
    assert_reads(layer, z, batch_dims=0)
    with pytest.raises(MixesProblemsError):
        check_independent(read(layer, z))
    nothing = read(lambda z: z + F.batch_norm(z.new_zeros(2, 0), None, None, training=True).sum(), normal(2, 3))
    assert "aten.batch_norm.default" in {node.op for node in nothing.nodes}
    weight = normal(3, 2, 3, 3, seed=4)

    def standardised(z: Tensor) -> Tensor:
        rows = F.batch_norm(weight.reshape(1, 3, -1), None, None, weight=weight[:, 0, 0, 0], training=True)
        return F.conv2d(z, rows.reshape_as(weight), padding=1)

    assert_reads(standardised, z)


# ------------------------------------------------------------------------------------------------ volumes


KERNEL = normal(2, 2, 2, 2, 2)


@cases(
    plain=module(nn.Conv3d(2, 3, 2)),
    padded=module(nn.Conv3d(2, 2, (3, 1, 2), stride=(2, 1, 1), padding=(1, 0, 1), dilation=(2, 1, 1), groups=2)),
    same=module(nn.Conv3d(2, 2, (2, 3, 1), padding="same", bias=False)),
    circular=module(nn.Conv3d(2, 2, 3, padding=1, padding_mode="circular")),
    transposed=module(nn.ConvTranspose3d(2, 3, 2)),
    strided=module(nn.ConvTranspose3d(2, 2, (3, 2, 1), stride=(2, 1, 2), padding=(1, 1, 0), output_padding=(1, 0, 0))),
    dilated=module(nn.ConvTranspose3d(2, 4, 2, stride=2, padding=1, dilation=(2, 1, 2), groups=2)),
    raw=lambda z: torch.convolution(z, KERNEL, None, [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1),
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_convolutions_of_volumes(function: Function) -> None:
    assert_reads(function, normal(2, 2, 4, 3, 3))


def test_a_volume_without_a_batch() -> None:
    assert_reads(lambda z: F.conv3d(z, KERNEL), normal(2, 3, 3, 2), batch_dims=0)
    assert_reads(lambda z: F.conv_transpose3d(z, KERNEL), normal(2, 3, 3, 2), batch_dims=0)


# ------------------------------------------------------------------------------------------ gather and scatter

ROW = torch.tensor([2, 0, 2, 1, 2])
SPREAD = torch.stack([torch.tensor([2, 0, 2, 1, 2]), torch.tensor([0, 0, 1, 1, 3]), torch.tensor([3, 3, 3, 0, 0])], 1)


def scatter(z: Tensor, index: Tensor, reduce: str, include_self: bool, base: Tensor | None = None) -> Tensor:
    base = z[:, :4].cos() if base is None else base
    return base.scatter_reduce(1, index.expand(2, -1, 3), z, reduce, include_self=include_self)


@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("index", [ROW[:, None], SPREAD], ids=["rows", "spread"])
def test_scatter_reduce(reduce: str, own: bool, index: Tensor) -> None:
    """Row 3 is empty in the first index: it keeps its old entry."""
    assert_reads(lambda z: scatter(z, index, reduce, own), normal(2, 5, 3))


def test_a_maximum_over_minus_infinity_sees_only_members() -> None:
    index = torch.tensor([0, 1, 2, 3, 2])[:, None]
    least = (2, 4, 3), -math.inf
    graph = assert_reads(lambda z: scatter(z, index, "amax", True, z.new_full(*least)), normal(2, 5, 3))
    assert "cat" not in {node.op for node in graph.nodes}


UNIQUE = torch.tensor([3, 0, 4])


@cases(
    gather=lambda z: z.gather(1, SPREAD.expand(2, 5, 3)),
    gather_fewer=lambda z: z.gather(1, SPREAD[:3, :2].expand(2, 3, 2)),
    gather_last=lambda z: z.gather(2, torch.tensor([2, 0]).expand(2, 5, 2)),
    scatter_add=lambda z: z[:, :4].scatter_add(1, SPREAD.expand(2, 5, 3), z.sin()),
    scatter_add_fewer=lambda z: z.scatter_add(1, SPREAD[:3, :2].expand(2, 3, 2), z.sin()),
    scatter=lambda z: z.scatter(1, UNIQUE[:, None].expand(2, 3, 3), z.sin()),
    scatter_value=lambda z: z.scatter(1, SPREAD.expand(2, 5, 3), 7.0),
    take=lambda z: torch.take_along_dim(z, SPREAD.expand(2, 5, 3), 1),
    several=lambda z: z[:, ROW, torch.tensor([0, 1, 2, 0, -1])],
    broadcast=lambda z: z[:, ROW[:, None], torch.tensor([0, 2])],
    apart=lambda z: z[:, None][:, torch.tensor([0, 0]), :, torch.tensor([2, 1])].movedim(0, 1),
    mask=lambda z: z[:, torch.ones(5, 3, dtype=torch.bool).tril()],
    repeats=lambda z: z.repeat_interleave(torch.tensor([0, 2, 1, 0, 3]), 1),
)
def test_known_indices(function: Function) -> None:
    assert_reads(function, normal(2, 5, 3))


@cases(
    put=lambda z: torch.index_put(z, (UNIQUE,), z[:3].sin()),
    put_number=lambda z: torch.index_put(z, (torch.arange(2)[:, None], torch.tensor([2, 0])), z.new_ones(())),
    put_broadcast=lambda z: torch.index_put(z, (UNIQUE,), z[0].sin()),
    put_mask=lambda z: torch.index_put(z, (torch.tensor([True, False, True, True, False]),), z[:3].sin()),
    add=lambda z: torch.index_put(z, (ROW,), z.sin(), accumulate=True),
    add_pairs=lambda z: torch.index_put(z, (ROW, torch.tensor([0, 1, 0, 1, 2])), z[:, 0].sin(), accumulate=True),
    flat=lambda z: z.repeat_interleave(2)[:15].reshape(5, 3),
)
def test_writing_by_known_indices(function: Function) -> None:
    assert_reads(function, normal(5, 3), batch_dims=0)


def test_writing_twice_to_one_place_is_left_alone() -> None:
    graph = read(lambda z: torch.index_put(z, (ROW,), z.sin()), normal(5, 3), batch_dims=0)
    assert any(node.op == "aten.index_put.default" for node in graph.nodes)


def test_the_page_names_every_operation_that_is_read() -> None:
    import re
    from pathlib import Path

    from deqops.graph._lowering import RULES, RULES_OF_COMPLEX

    page = (Path(__file__).parent.parent / "docs" / "operators.md").read_text()
    named = set(re.findall(r"`(\w+)[`(]", page))
    missing = {rule.split(".")[1].removesuffix("_with_indices") for rule in RULES | RULES_OF_COMPLEX} - named
    assert missing <= {"lt", "le", "gt", "ne"}, missing  # "`eq` .. `ge`"
