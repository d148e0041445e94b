"""The architectures that `deqops train` knows, by name."""

from __future__ import annotations

from ._autoregressive_training import AutoregressiveRecipe
from ._diffusion_recipe import DiffusionRecipe
from ._integral_recipe import IntegralRecipe
from ._pign_recipe import PIGNRecipe
from ._recipe import Recipe
from ._transformer_training import TransformerRecipe

ALL: tuple[Recipe, ...] = (
    PIGNRecipe(),
    AutoregressiveRecipe(),
    TransformerRecipe(),
    DiffusionRecipe(),
    IntegralRecipe(),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in ALL}
