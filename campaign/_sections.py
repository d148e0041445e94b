"""The sections by name, in the order in which `all` runs them."""

from __future__ import annotations

from ._balls import BALLS
from ._claims import CLAIMS
from ._matrices import MATRICES
from ._modules import CHOSEN, MODULES, SORTED, TRANSFORMED
from ._section import Section
from ._structured import STRUCTURED
from ._tampered import TAMPERED

_ALL = (MATRICES, BALLS, CLAIMS, TAMPERED, STRUCTURED, MODULES, TRANSFORMED, SORTED, CHOSEN)
SECTIONS: dict[str, Section] = {section.name: section for section in _ALL}
