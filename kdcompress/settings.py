"""Base of every section of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_serializer

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler


class Settings(BaseModel):
    """Base of every section: frozen, no unknown keys, docstrings of attributes become the schema's."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    newer: ClassVar[frozenset[str]] = frozenset()
    """Keys that earlier versions did not know. They are written down only where they are set: checkpoints and stores
    know a section by what is written."""

    @model_serializer(mode="wrap")
    def _without_newer(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {
            name: value
            for name, value in found.items()
            if name not in self.newer or getattr(self, name) != fields[name].default
        }
