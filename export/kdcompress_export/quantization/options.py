"""What a search is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdcompress_export.errors import BudgetNotMetError
from kdcompress_export.prove import FLOAT, Choice
from kdcompress_export.quantization.budget import Budget, parse_budget
from kdcompress_export.quantization.measure import Rounds
from kdcompress_export.quantization.presets import PRESETS
from kdcompress_export.quantization.schemes import find_scheme
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress_export.quantization.repairs import Repair
    from kdcompress_export.quantization.rows import Row
    from kdcompress_export.quantization.schemes import Scheme

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class SearchOptions:
    """What to try and what to demand.

    Raises:
        OptionsError: an unknown scheme or preset, or a number outside its range.
        BudgetSyntaxError: the budget cannot be read.
    """

    quantize: str = AUTO
    """``auto`` tries what suits the CPU, ``none`` keeps float32, any other is the name of a scheme."""
    cpu: str | None = None
    """Preset that says what to try; that of this machine when left out."""
    budget: str | Budget | None = None
    """Demands, see ``parse_budget``."""
    subset_size: int = 64
    """Recordings to calibrate on."""
    dev_limit: int | None = None
    """Most items of the dev manifest; all when left out."""
    allowed_points: float | None = None
    """Error rate that a smaller file may cost, upper end of the paired 95 % interval; left out: ``MAX_WORSE_POINTS`` of
    what is counted."""
    mixed: bool = True
    """Whether to mend a candidate that makes too many errors by keeping its guilty layers in float32."""
    sensitivity: bool = False
    """Whether to measure where it hurts even when nothing needs mending."""
    repairs: tuple[Repair, ...] = ()
    """Each is tried on the cheapest candidate that it suits."""
    rounds: Rounds = field(default_factory=Rounds)
    """How often each candidate is timed."""
    work: Path | None = None
    """Folder in which an interrupted search finds what it had done."""

    def __post_init__(self) -> None:
        if self.quantize not in {AUTO, NONE}:
            find_scheme(self.quantize)
        if self.cpu is not None and self.cpu not in PRESETS:
            raise OptionsError(f"no CPU preset is called {self.cpu!r}; known are {', '.join(PRESETS)}")
        if self.subset_size < 1 or (self.dev_limit is not None and self.dev_limit < 1):
            raise OptionsError("subset_size and dev_limit must be at least 1")
        if self.allowed_points is not None and not self.allowed_points >= 0:
            raise OptionsError(f"allowed_points must be at least 0, found {self.allowed_points}")
        self.parsed_budget()

    def parsed_budget(self) -> Budget | None:
        """Return the budget, read."""
        return parse_budget(self.budget) if isinstance(self.budget, str) else self.budget


@dataclass(frozen=True)
class BudgetVerdict:
    """Whether a budget is met; if not, what comes nearest."""

    budget: str
    """As it was written."""
    met: bool
    """Whether the chosen file meets it."""
    nearest: str = ""
    """Candidate whose misses add up to the least; its other objections are in the table."""
    misses: dict[str, float] = field(default_factory=dict)
    """Its missed bounds: by how much, as a share of the bound (for error rates in points)."""
    text: str = ""
    """The same in words."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    contents: dict[str, bytes]
    """Files by precision: float32, and the smaller one if there is any worth keeping."""
    choice: Choice
    """The precision that apps load by default, and why."""
    rows: tuple[Row, ...]
    """All candidates, float32 first."""
    shipped: str
    """Name of the smaller candidate among ``contents``; empty when there is none."""
    measured: dict[str, Any]
    """For ``bundle.json``."""
    verdict: BudgetVerdict | None = None
    """None without a budget."""
    scheme: Scheme | None = None
    """Of the smaller file."""

    @property
    def chosen(self) -> str:
        """Name of the row that apps load by default."""
        return FLOAT if self.choice.precision == FLOAT else self.shipped

    def require_budget(self) -> None:
        """Refuse a result that does not meet its budget.

        Raises:
            BudgetNotMetError: with the nearest candidate and by how much it misses.
        """
        if self.verdict is not None and not self.verdict.met:
            raise BudgetNotMetError(
                f"no candidate meets {self.verdict.budget}; the nearest is {self.verdict.nearest or 'none'}: "
                f"{self.verdict.text}"
            )
