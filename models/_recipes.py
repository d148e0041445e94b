"""The architectures that `deqops train` knows, by name."""

from __future__ import annotations

from ._autoregressive_training import AutoregressiveRecipe
from ._diffusion_recipe import DiffusionRecipe
from ._ignn_recipe import ImplicitGraphRecipe
from ._image_deq_recipe import ImageDEQRecipe
from ._integral_recipe import IntegralRecipe
from ._monotone_recipe import MonotoneRecipe
from ._pign_recipe import PIGNRecipe
from ._recipe import Recipe
from ._recycling_recipe import RecyclingRecipe
from ._transformer_training import TransformerRecipe

ALL: tuple[Recipe, ...] = (
    PIGNRecipe(),
    AutoregressiveRecipe(),
    TransformerRecipe(),
    DiffusionRecipe(),
    IntegralRecipe(),
    MonotoneRecipe(),
    ImplicitGraphRecipe(),
    ImageDEQRecipe(),
    RecyclingRecipe(),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in ALL}
