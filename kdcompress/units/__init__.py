"""Units of text: characters, subwords, phones, senones. What a language model predicts and an auxiliary head learns."""

from __future__ import annotations

from kdcompress.units.inventory import Inventory, Spelled

__all__ = ["Inventory", "Spelled"]
