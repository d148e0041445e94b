"""The architectures that `deqops train` knows, by name."""

from __future__ import annotations

from ._autoregressive_training import AutoregressiveRecipe
from ._pign_recipe import PIGNRecipe
from ._recipe import Recipe
from ._recycling_recipe import RecyclingRecipe
from ._transformer_training import TransformerRecipe

ALL: tuple[Recipe, ...] = (
    PIGNRecipe(),
    AutoregressiveRecipe(),
    TransformerRecipe(),
    RecyclingRecipe(),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in ALL}
