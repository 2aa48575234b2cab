"""The results that show models and providers; the rules of `results` are theirs too."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych.core.errors import format_usd, quoted
from triptych.core.json_fields import IF_ANY, IF_SET, Result, Usd
from triptych.core.text import joined_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow(Result):
    """A model as one provider sells it. An operation with another price or state has a row of its own."""

    model: str
    provider: str
    endpoints: dict[str, str]
    """The provider's own id for each operation."""
    usd_per_image: Usd | None
    """Null if the price is not published: the provider quotes each request."""
    price: str | None = field(default=None, metadata=IF_SET)
    """The list price in words, where it has more parts than one."""
    price_as_of: str
    max_references: int
    max_outputs: int
    max_references_and_outputs: int | None = field(default=None, metadata=IF_SET)
    """For models that edit sets: how many references and images one request takes together."""
    independent: bool | None = field(default=None, metadata=IF_SET)
    """Several images of one request are variations of each other, not one set."""
    sizes: list[str]
    formats: list[str]
    params: list[str] | None = field(default=None, metadata=IF_SET)
    """The model's own parameters with their values, where the list is short."""
    live: bool | None = field(default=None, metadata=IF_SET)
    """True for a model from the provider's live catalogue: only its endpoint id names it."""
    title: str | None = field(default=None, metadata=IF_SET)
    """The provider's words about it: data from outside."""
    lifecycle: str | None = field(default=None, metadata=IF_SET)
    usable: bool
    why_not: str | None = field(default=None, metadata=IF_SET)

    def limits_text(self) -> str:
        """Return how many references and images one request takes, in words."""
        kind = "variations" if self.independent else "images"
        images = f"up to {self.max_outputs} {kind}" if self.max_outputs > 1 else "1 image"
        together = f", {self.max_references_and_outputs} together" if self.max_references_and_outputs else ""
        return f"up to {self.max_references} references, {images}{together}" if self.max_references else images

    def price_text(self) -> str:
        """Return the price in words; where it has parts, a live one is only where they begin."""
        if self.usd_per_image is None:
            return "no published price: quoted for each request"
        if not self.price:
            return f"${format_usd(self.usd_per_image)} an image"
        live = f"from ${format_usd(self.usd_per_image)} now; listed " if self.price_as_of == "live" else ""
        return live + self.price

    def by_endpoint(self) -> dict[str, list[str]]:
        """Return the operations of each endpoint id."""
        found: dict[str, list[str]] = {}
        for operation, endpoint in self.endpoints.items():
            found.setdefault(endpoint, []).append(operation)
        return found

    def text(self) -> str:
        """Return the row as one line."""
        facts = [f"live, {quoted(self.title)}" if self.title else "live"] if self.live else []
        facts += [self.price_text(), self.limits_text()]
        facts += [f"sizes {', '.join(self.sizes)}"] if self.sizes else []
        facts += [" ".join(self.formats)] if self.formats else []
        facts += [f"params {', '.join(self.params)}"] if self.params else []
        facts += [self.lifecycle] if self.lifecycle else []
        facts += ["usable" if self.usable else f"not usable: {self.why_not}"]
        ids = [f"{' '.join(operations)} = {endpoint}" for endpoint, operations in self.by_endpoint().items()]
        return f"{self.model} on {self.provider}: {'; '.join([*facts, *ids])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow(Result):
    provider: str
    usable: bool
    why_not: str | None = field(default=None, metadata=IF_SET)
    balance_usd: Usd | None = field(default=None, metadata=IF_SET)
    others_usd_per_image: dict[str, Usd] = field(default_factory=dict, metadata=IF_ANY)
    """Its models that have no row in this list, and the least that an image costs."""

    def text(self) -> str:
        """Return the provider as one line."""
        facts = ["usable" if self.usable else f"not usable: {self.why_not}"]
        facts += [f"balance ${format_usd(self.balance_usd)}"] if self.balance_usd is not None else []
        others = ", ".join(f"{model} ${format_usd(usd)}" for model, usd in self.others_usd_per_image.items())
        facts += [f"not shown below, an image: {others}"] if others else []
        return f"{self.provider}: {'; '.join(facts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsResult(Result):
    default_provider: str
    providers: list[ProviderRow]
    models: list[ModelRow]
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the providers and the models, one a line."""
        lines = [row.text() for row in self.providers] + [row.text() for row in self.models]
        return joined_lines([f"default provider: {self.default_provider}", *lines, *self.warnings])
