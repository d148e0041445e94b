"""Layers of the `transformers` library, small, with the weights that they come with.

Each is built from its configuration class and called as the library's own models call it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, POSITIONS = 16, 6
SEQUENCE, IMAGE = (1, POSITIONS, WIDTH), (1, 8, 8, 8)
_SIZES = {
    "hidden_size": WIDTH,
    "num_attention_heads": 2,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 1,
    "vocab_size": 11,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Layer:
    """A layer's name, what makes it, and the shape of its state."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = SEQUENCE


class _Called(nn.Module):
    """`z -> layer(z, **more)`, the first of several results."""

    def __init__(self, layer: nn.Module, **more: Any) -> None:
        super().__init__()
        self.layer, self.more = layer, more

    def forward(self, z: Tensor) -> Tensor:
        result = self.layer(z, **self.more)
        first: Tensor = result[0] if isinstance(result, tuple) else result
        return first


class _Rotated(nn.Module):
    """A decoder's layer with its rotary positions."""

    def __init__(self, layer: nn.Module, rotary: nn.Module) -> None:
        super().__init__()
        self.layer, self.rotary = layer, rotary

    def forward(self, z: Tensor) -> Tensor:
        positions = torch.arange(z.shape[1])[None]
        angles = self.rotary(z, positions)
        result = self.layer(z, position_ids=positions, position_embeddings=angles, attention_mask=None)
        first: Tensor = result[0] if isinstance(result, tuple) else result
        return first


def _parts(model: str, layer: str, config: str, **settings: Any) -> tuple[Any, Any, Any]:
    """The module, the layer's class and the configuration."""
    module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    made = getattr(importlib.import_module("transformers"), config)(**{**_SIZES, **settings})
    made._attn_implementation = "sdpa"
    return module, getattr(module, layer), made


def _encoder(model: str, prefix: str, layer: str = "Layer", config: str = "Config", **more: Any) -> Layer:
    settings, call = more.pop("settings", {}), more

    def make() -> nn.Module:
        _, kind, made = _parts(model, prefix + layer, prefix + config, **settings)
        return _Called(kind(made), **call)

    return Layer(prefix, make)


def _decoder(model: str, prefix: str, layer: str = "DecoderLayer", **settings: Any) -> Layer:
    def make() -> nn.Module:
        module, kind, made = _parts(model, prefix + layer, f"{prefix}Config", head_dim=WIDTH // 2, **settings)
        rotary = next(getattr(module, name) for name in dir(module) if name.endswith("RotaryEmbedding"))
        return _Rotated(kind(made, 0), rotary(made))

    return Layer(prefix, make)


def layers() -> Iterator[Layer]:
    """All of them."""
    for model, prefix in {
        "bert": "Bert",
        "roberta": "Roberta",
        "electra": "Electra",
        "esm": "Esm",
        "vit": "ViT",
    }.items():
        yield _encoder(model, prefix)
    yield _encoder("dinov2", "Dinov2")
    yield _encoder("albert", "Albert", settings={"embedding_size": WIDTH})
    yield _encoder("deberta_v2", "DebertaV2", attention_mask=torch.ones(1, 1, POSITIONS, POSITIONS))
    narrow = {"dim": WIDTH, "n_heads": 2, "hidden_dim": 2 * WIDTH}
    yield Layer("DistilBert", lambda: _Called(_made("distilbert", "TransformerBlock", "DistilBertConfig", **narrow)))
    yield _encoder("clip", "CLIP", "EncoderLayer", "TextConfig", attention_mask=None)
    yield _encoder("siglip", "Siglip", "EncoderLayer", "TextConfig", attention_mask=None)
    yield _encoder("wav2vec2", "Wav2Vec2", "EncoderLayer")
    whisper = {"d_model": WIDTH, "encoder_attention_heads": 2, "encoder_ffn_dim": 2 * WIDTH}
    yield _encoder("whisper", "Whisper", "EncoderLayer", settings=whisper, attention_mask=None)
    for model, prefix in {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}.items():
        yield _decoder(model, prefix, num_key_value_heads=1)
    for model, prefix in {"gemma": "Gemma", "phi": "Phi", "olmo2": "Olmo2", "stablelm": "StableLm"}.items():
        yield _decoder(model, prefix, num_key_value_heads=1)
    yield _decoder("gpt_neox", "GPTNeoX", "Layer")
    gpt2 = {"n_embd": WIDTH, "n_head": 2, "n_inner": 2 * WIDTH, "n_positions": 16}
    yield Layer("GPT2", lambda: _Called(_made("gpt2", "GPT2Block", "GPT2Config", 0, **gpt2)))
    t5 = {"d_model": WIDTH, "d_kv": 8, "d_ff": 2 * WIDTH, "num_heads": 2}
    yield Layer("T5, feed forward", lambda: _Called(_made("t5", "T5LayerFF", "T5Config", **t5)))
    biased = {**t5, "is_decoder": False}
    yield Layer("T5, attention", lambda: _Called(_made("t5", "T5LayerSelfAttention", "T5Config", True, **biased)))
    yield Layer("FNet", lambda: _Called(_made("fnet", "FNetLayer", "FNetConfig")))
    yield Layer("ConvNeXt V2", lambda: _Called(_made("convnextv2", "ConvNextV2Layer", "ConvNextV2Config", 8)), IMAGE)
    experts = {"num_local_experts": 4, "num_key_value_heads": 2}
    yield Layer(
        "Mixtral, experts", lambda: _Called(_made("mixtral", "MixtralSparseMoeBlock", "MixtralConfig", **experts))
    )


def _made(model: str, layer: str, config: str, *more: Any, **settings: Any) -> nn.Module:
    _, kind, made = _parts(model, layer, config, **settings)
    result: nn.Module = kind(made, *more)
    return result
