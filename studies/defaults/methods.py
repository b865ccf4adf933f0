"""The ways of choosing λ, and their rivals, each with one strength or two."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Method:
    """One way of training, in full.

    Attributes:
        name: As in the tables.
        share: The part of the first objective by which λ_0 is chosen; None if it is
            not.
        multiplier: λ_0; None if a share chooses it, or there is no energy.
        tau: By what λ rises at every step, times the task loss.
        decay: Weight decay of AdamW, of all weights.
    """

    name: str
    share: float | None = None
    multiplier: float | None = None
    tau: float = 1.0
    decay: float = 0.0

    @property
    def has_energy(self) -> bool:
        """Whether it trains by least action."""
        return self.share is not None or self.multiplier is not None

    def with_decay(self, decay: float) -> Method:
        """The same with a weight decay beside it."""
        return replace(self, name=f"{self.name}, decay {decay:g}", decay=decay)


PLAIN = Method("plain")
SHARES = (0.01, 0.03, 0.1, 0.3)
RISING = tuple(Method(f"Share({s:g})", share=s) for s in SHARES)
CONSTANT = tuple(Method(f"Share({s:g}), λ constant", share=s, tau=0.0) for s in SHARES)
FIXED = tuple(Method(f"λ_0 = {at:g}", multiplier=at) for at in (0.5, 5.0))
ENERGIES = (*RISING, *CONSTANT, *FIXED)
DECAYS = tuple(Method(f"decay {d:g}", decay=d) for d in (0.03, 0.1, 0.3))
