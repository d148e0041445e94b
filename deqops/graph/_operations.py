"""The operations that deqops knows: a fixed dictionary from exported names to torch functions.

A name from a file is only ever looked up here. It is never resolved through `torch.ops`, so a file can call
nothing that is not listed below. The lists also say which results may share memory with an operand, which is
what turning in-place operations into pure ones depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

# The result is a new tensor. "name:overload,overload"; no overload means ".default".
_FRESH = """
tanh sigmoid relu relu6 silu abs neg exp expm1 log log1p log2 log10 exp2 sqrt rsqrt reciprocal erf erfc sin cos
atan asin acos angle tan atanh asinh acosh sinh cosh square sign sgn floor ceil round trunc frac hardswish
hardsigmoid mish selu celu
leaky_relu elu gelu softplus hardtanh softshrink hardshrink threshold log_sigmoid glu prelu logit sinc nan_to_num
clamp:default,Tensor clamp_min:default,Tensor clamp_max:default,Tensor clip
add:Tensor,Scalar sub:Tensor,Scalar rsub:Tensor,Scalar mul:Tensor,Scalar
div:Tensor,Scalar,Tensor_mode,Scalar_mode true_divide:Tensor,Scalar floor_divide:default,Scalar
remainder:Tensor,Scalar fmod:Tensor,Scalar pow:Tensor_Scalar,Tensor_Tensor,Scalar
maximum minimum max:default,other,dim min:default,other,dim fmax fmin atan2 hypot lerp:Scalar,Tensor addcmul addcdiv
subtract:Tensor,Scalar multiply:Tensor,Scalar divide:Tensor,Scalar
eq:Tensor,Scalar ne:Tensor,Scalar lt:Tensor,Scalar le:Tensor,Scalar gt:Tensor,Scalar ge:Tensor,Scalar
logical_not logical_and logical_or logical_xor bitwise_not bitwise_and:Tensor,Scalar bitwise_or:Tensor,Scalar
bitwise_xor:Tensor,Scalar __xor__:Tensor __and__:Tensor,Scalar __or__:Tensor,Scalar isinf isnan isfinite
where:self,ScalarOther,ScalarSelf,Scalar masked_fill:Scalar,Tensor
linear matmul mm bmm mv dot addmm addmv baddbmm outer bilinear _trilinear
conv1d:default,padding conv2d:default,padding conv3d:default,padding convolution _convolution
conv_transpose1d conv_transpose2d:input conv_transpose3d:input
avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
upsample_nearest1d:default,vec upsample_nearest2d:default,vec upsample_nearest3d:default,vec
_upsample_nearest_exact1d:default,vec _upsample_nearest_exact2d:default,vec _upsample_nearest_exact3d:default,vec
upsample_linear1d:default,vec upsample_bilinear2d:default,vec upsample_trilinear3d:default,vec
upsample_bicubic2d:default,vec im2col col2im
layer_norm native_layer_norm group_norm native_group_norm batch_norm instance_norm rms_norm
_weight_norm _weight_norm_interface norm_except_dim
softmax:int _softmax log_softmax:int _log_softmax logsumexp scaled_dot_product_attention
gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell gru:input lstm:input rnn_tanh:input rnn_relu:input
cosine_similarity cdist logaddexp rrelu addbmm linalg_cross tensordot inner vdot diag_embed
linalg_inv linalg_inv_ex inverse linalg_solve linalg_solve_triangular linalg_matrix_power matrix_power
linalg_matrix_norm:default,str_ord matrix_exp linalg_matrix_exp
sum:default,dim_IntList mean:default,dim prod:default,dim_int amax amin aminmax argmax argmin
std:default,dim,correction var:default,dim,correction std_mean:default,dim,correction var_mean:default,dim,correction
norm:Scalar,ScalarOpt_dim linalg_vector_norm linalg_norm all:default,dim any:default,dim cumsum cumprod
cummax cummin logcumsumexp
topk sort:default,stable msort argsort:default,stable kthvalue median:default,dim
cat concat concatenate stack index:Tensor index_select index_add gather scatter:src,value scatter_add
scatter_reduce:two index_put index_copy index_fill:int_Scalar,int_Tensor embedding select_scatter slice_scatter
masked_scatter masked_select take_along_dim repeat tile repeat_interleave:self_int,self_Tensor,Tensor flip roll
constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d
replication_pad1d replication_pad2d replication_pad3d
tril triu trace bincount bucketize:Tensor searchsorted:Tensor one_hot
fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn
fft_fftshift fft_ifftshift _fft_r2c _fft_c2r _fft_c2c complex polar conj_physical
zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full
empty:memory_format empty_like new_empty
arange:default,start,start_step eye:default,m scalar_tensor fill:Scalar,Tensor zero copy clone lift_fresh_copy
_to_copy linspace tril_indices triu_indices nonzero
"""

# The result always shares the operand's memory, and a change of it can be written back (`_functional.py`).
_VIEWS = """
view select:int slice:Tensor unsqueeze squeeze:default,dim,dims t transpose:int permute alias detach lift_fresh
"""

# The result may share memory with the operand.
_MAY_ALIAS = """
reshape flatten:using_ints unflatten:int contiguous to:dtype,dtype_layout,device,other type_as expand expand_as
broadcast_to view_as reshape_as _unsafe_view mT numpy_T adjoint swapaxes swapdims movedim:int,intlist
moveaxis:int,intlist narrow chunk
split:Tensor,sizes split_with_sizes unbind:int tensor_split:sections diagonal dropout feature_dropout positive
einsum ravel real imag unfold view_as_real view_as_complex _conj resolve_conj resolve_neg
mH matrix_H hstack vstack dstack column_stack alpha_dropout feature_alpha_dropout
sum_to_size broadcast_tensors meshgrid:default,indexing squeeze_copy identity
pixel_shuffle pixel_unshuffle channel_shuffle
"""

_CHECKS = frozenset(
    [
        "aten._assert_scalar.default",
        "aten._assert_tensor_metadata.default",
        "aten._assert_async.msg",
        "aten._assert_async.default",
        "aten.sym_constrain_range.default",
        "aten.sym_constrain_range_for_size.default",
        "aten._print.default",
    ]
)

_RANDOM_IN_TRAINING = frozenset(
    {"aten.rrelu.default", "aten.alpha_dropout.default", "aten.feature_alpha_dropout.default"}
)

_RANDOM_BASES = frozenset(
    [
        "rand",
        "randn",
        "randint",
        "randperm",
        "rand_like",
        "randn_like",
        "randint_like",
        "bernoulli",
        "multinomial",
        "normal",
        "normal_functional",
        "poisson",
        "binomial",
        "uniform",
        "exponential",
        "log_normal",
        "geometric",
        "cauchy",
        "random",
        "rrelu",
        "rrelu_with_noise",
        "native_dropout",
        "alpha_dropout",
        "feature_alpha_dropout",
        "fractional_max_pool2d",
        "fractional_max_pool3d",
    ]
)

# In-place forms whose functional overload has another name.
_RENAMED = {
    "aten.pow_.Scalar": "aten.pow.Tensor_Scalar",
    "aten.pow_.Tensor": "aten.pow.Tensor_Tensor",
}

# Forms that write their result into the argument `out`, as `torch.nn.functional.normalize(out=...)` exports them.
_INTO_OUT = {"aten.div.out": "aten.div.Tensor"}

# In place these change a tensor's shape, not its content.
METADATA_ONLY = frozenset(
    {
        "aten.squeeze.default",
        "aten.squeeze.dim",
        "aten.squeeze.dims",
        "aten.unsqueeze.default",
        "aten.t.default",
        "aten.transpose.int",
        "aten.swapaxes.default",
        "aten.swapdims.default",
    }
)

_PROMOTING = """
add sub rsub mul div true_divide floor_divide subtract multiply divide pow remainder fmod atan2 hypot lerp
addcmul addcdiv clamp clamp_min clamp_max clip
"""

# Arguments that do not change the values of the result.
IGNORED_ARGUMENTS = frozenset(
    {
        "device",
        "pin_memory",
        "layout",
        "memory_format",
        "non_blocking",
        "copy",
        "cudnn_enable",
        "cudnn_enabled",
    }
)


def _names(listing: str) -> tuple[str, ...]:
    names: list[str] = []
    for entry in listing.split():
        base, _, overloads = entry.partition(":")
        names.extend(f"aten.{base}.{overload}" for overload in (overloads or "default").split(","))
    return tuple(names)


FRESH = frozenset(_names(_FRESH))
VIEWS = frozenset(_names(_VIEWS))
KNOWN = FRESH | VIEWS | frozenset(_names(_MAY_ALIAS))


@cache
def operations() -> Mapping[str, Callable[..., Any]]:
    """The dictionary: exported name to torch function. Names that this torch does not have are left out."""
    table: dict[str, Callable[..., Any]] = {}
    for name in KNOWN:
        _, base, overload = name.split(".")
        function = getattr(getattr(torch.ops.aten, base, None), overload, None)
        if function is not None:
            table[name] = function
    return table


@cache
def parameters(name: str) -> frozenset[str]:
    """The argument names that a known operation takes."""
    schema = operations()[name]._schema  # type: ignore[attr-defined]
    return frozenset(argument.name for argument in schema.arguments)


@cache
def required_switches(name: str) -> frozenset[str]:
    """Ignored arguments, which choose among kernels, that an operation cannot be called without."""
    schema = operations()[name]._schema  # type: ignore[attr-defined]
    needed = (argument.name for argument in schema.arguments if not argument.has_default_value())
    return IGNORED_ARGUMENTS.intersection(needed) & {"cudnn_enable", "cudnn_enabled"}


def may_promote(name: str) -> bool:
    """Whether the pure form can have another dtype than the tensor that the in-place form changes."""
    return name.split(".")[1] in _PROMOTING.split()


def own_name(name: str, argument: str) -> str:
    """What the pure form calls an argument of the in-place form: some change `self`, and take an `input`."""
    takes_input = name in operations() and "self" not in parameters(name)
    return "input" if argument == "self" and takes_input else argument


def is_check(name: str) -> bool:
    """Whether the operation only asserts or prints, and so can be dropped."""
    return name in _CHECKS


def is_random(name: str) -> bool:
    """Whether the operation draws random numbers."""
    parts = name.split(".")
    return len(parts) >= 2 and parts[0] == "aten" and parts[1].rstrip("_") in _RANDOM_BASES


def is_random_in_training(name: str) -> bool:
    """Whether the operation draws random numbers in training mode only."""
    return name in _RANDOM_IN_TRAINING


def functional_name(name: str) -> str | None:
    """The pure form of the name of an operation that changes a tensor in place; None where it changes none."""
    if name in _INTO_OUT:
        return _INTO_OUT[name]
    parts = name.split(".")
    if len(parts) != 3 or not parts[1].endswith("_") or parts[1].endswith("__"):
        return None
    return _RENAMED.get(name, f"{parts[0]}.{parts[1][:-1]}.{parts[2]}")
