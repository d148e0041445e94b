"""The architectures that `deqops train` knows, by name."""

from __future__ import annotations

from ._ignn_recipe import ImplicitGraphRecipe
from ._image_deq_recipe import ImageDEQRecipe
from ._monotone_recipe import MonotoneRecipe
from ._pign_recipe import PIGNRecipe
from ._recipe import Recipe

_ALL: tuple[Recipe, ...] = (PIGNRecipe(), MonotoneRecipe(), ImplicitGraphRecipe(), ImageDEQRecipe())
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
"""`deqops train pign`: the graph network on scikit-learn's digits, Cora and CiteSeer. `monotone`, `implicit_graph`
and `image_deq`: the classic equilibrium models."""
