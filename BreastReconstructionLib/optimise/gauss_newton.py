"""Damped Gauss-Newton (Levenberg 1944, Marquardt 1963), for any state and any linearisation of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

FIRST_DAMPING, SMALLEST_DAMPING, FACTOR, LARGEST_TRIALS = 1e-3, 1e-6, 10.0, 8


class Linearised(Protocol):
    """Normal equations at a state."""

    @property
    def cost(self) -> float:
        """The value that is made small."""


S = TypeVar("S")  # state
L = TypeVar("L", bound=Linearised)


@dataclass(frozen=True)
class Descent(Generic[S, L]):
    """Where a descent ended.

    Attributes:
        state: the state of the least cost.
        linear: the normal equations there.
        iterations: how many steps.
        converged: it ended by itself.
    """

    state: S
    linear: L
    iterations: int
    converged: bool


def damped_gauss_newton(
    state: S,
    linearise: Callable[[S], L],
    step: Callable[[S, L, float], tuple[S, float]],
    largest_iterations: int,
    smallest_step: float,
    report: Callable[[int], None] = lambda iteration: None,
) -> Descent[S, L]:
    """Go downhill until a step is small, or none leads downhill any more.

    Args:
        state: the start.
        linearise: the normal equations at a state.
        step: (state, its equations, damping) -> another state, and how far the step goes in the unit of `smallest_step`.
        largest_iterations: at most.
        smallest_step: that ends the descent.
        report: called before each iteration with its number from 0; may raise to stop.
    """
    linear, damping = linearise(state), FIRST_DAMPING
    for iteration in range(largest_iterations):
        report(iteration)
        for _ in range(LARGEST_TRIALS):
            candidate, moved = step(state, linear, damping)
            trial = linearise(candidate)
            if trial.cost <= linear.cost:
                break
            damping *= FACTOR
        else:
            return Descent(state, linear, iteration + 1, True)  # the optimum, to the precision of the numbers
        state, linear, damping = candidate, trial, max(damping / FACTOR, SMALLEST_DAMPING)
        if moved < smallest_step:
            return Descent(state, linear, iteration + 1, True)
    return Descent(state, linear, largest_iterations, False)
