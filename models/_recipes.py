"""The architectures that `deqops train` knows, by name."""

from __future__ import annotations

from ._integral_recipe import IntegralRecipe
from ._pign_recipe import PIGNRecipe
from ._recipe import Recipe

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (IntegralRecipe(), PIGNRecipe())}
