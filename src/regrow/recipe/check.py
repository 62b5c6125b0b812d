"""What can be wrong with a recipe's names and options, found without reading data or making a model."""

from __future__ import annotations

from regrow.recipe import start
from regrow.recipe.build import method_of
from regrow.recipe.schema import Recipe
from regrow.recipe.tweaks import tweaks_of
from regrow.train import data, models


def check(recipe: Recipe) -> None:
    """Raises:
    RegrowError: an unknown method, tweak, model, start or data set, or an option that it does not have.
    """
    if recipe.method:
        method_of(recipe.method)
    tweaks_of(recipe)
    if not recipe.model.name.startswith("timm:"):
        models.factory_of(recipe.model.name, recipe.model.options)
    data.loader_of(recipe.data.name)
    start.check(recipe.topology)
