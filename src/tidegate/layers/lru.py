"""The linear recurrent unit: a diagonal linear recurrence of complex states between two real products."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.kernels.ragged import Ragged
from tidegate.kernels.scan import at_least_float32, linear_scan
from tidegate.layers.forms import Form, Walk
from tidegate.layers.recurrent_arguments import check_switches
from tidegate.layers.sequence_layer import SequenceLayer
from tidegate.layers.states import StateLayout

__all__ = ["LRU"]


class LRU(SequenceLayer[Tensor]):
    r"""The linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349), trained in parallel over time.

    .. math::
        h_t &= \lambda \odot h_{t-1} + e^{g} \odot B x_t, \qquad \lambda_j = \exp(-e^{\nu_j} + i e^{\theta_j}) \\
        y_t &= \mathrm{Re}(C h_t) + D x_t

    The states are complex: S numbers, held as 2S real ones, real parts first, of float32 at least. ``nu_log``,
    ``theta_log`` and ``gamma_log [S]`` are ν, θ and g; ``weight_in [2S, I]`` is the real part of B above its imaginary
    part; ``weight_out [O, 2S]`` the real part of C beside minus its imaginary part; ``weight_skip [O, I]`` is D. The
    magnitude of λ is below one whatever the parameters are. As ``hx`` the states are ``[1, B, 2S]``.

    Args:
        input_size: I, features of a step.
        state_size: S, complex states.
        output_size: O; None for I.
        batch_first: Padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        device: Where the parameters are made.
        dtype: Their type.
        r_min: The magnitudes of λ start evenly on the ring between this and `r_max`, by area.
        r_max: At most 1; near 1 the layer remembers long.
        max_phase: Phases of λ start evenly between 0 and this, in radians.

    Raises:
        ValueError: A size is not positive, or the ring is none: ``0 <= r_min < r_max <= 1`` and ``max_phase > 0``.
        TypeError: A size is not an integer, or a switch not a bool.
    """

    def __init__(
        self,
        input_size: int,
        state_size: int,
        output_size: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
    ) -> None:
        super().__init__()
        output_size = input_size if output_size is None else output_size
        for name, size in (("input_size", input_size), ("state_size", state_size), ("output_size", output_size)):
            if not isinstance(size, int) or isinstance(size, bool):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero; found {size}")
        check_switches(batch_first=batch_first)
        if not 0 <= r_min < r_max <= 1:
            raise ValueError(f"expected 0 <= r_min < r_max <= 1; found r_min={r_min} and r_max={r_max}")
        if not max_phase > 0:
            raise ValueError(f"expected a max_phase above 0, in radians; found {max_phase}")
        self.input_size, self.state_size, self.output_size = input_size, state_size, output_size
        self.bidirectional = False
        self._layout = StateLayout(1, {"h_0": (2 * state_size,)}, False)
        self.batch_first, self.r_min, self.r_max, self.max_phase = batch_first, r_min, r_max, max_phase

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.nu_log, self.theta_log, self.gamma_log = (parameter(state_size) for _ in range(3))
        self.weight_in = parameter(2 * state_size, input_size)
        self.weight_out = parameter(output_size, 2 * state_size)
        self.weight_skip = parameter(output_size, input_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw λ from the ring, normal B, C and D of variances 1/(2I), 1/S and 1/I; ``g = log(1 - |λ|²) / 2``."""
        with torch.no_grad():
            areas = torch.rand_like(self.nu_log) * (self.r_max**2 - self.r_min**2) + self.r_min**2
            # What a magnitude of exactly 0 or 1 would be the logarithm of is kept away from zero.
            decays = (-0.5 * areas.clamp(min=1e-12).log()).clamp(min=1e-7)
            self.nu_log.copy_(decays.log())
            phases = (self.max_phase * torch.rand_like(self.theta_log)).clamp(min=1e-7)
            self.theta_log.copy_(phases.log())
            self.gamma_log.copy_(0.5 * (-torch.expm1(-2 * decays)).log())
            nn.init.normal_(self.weight_in, std=math.sqrt(0.5 / self.input_size))
            nn.init.normal_(self.weight_out, std=math.sqrt(1 / self.state_size))
            nn.init.normal_(self.weight_skip, std=math.sqrt(1 / self.input_size))

    def extra_repr(self) -> str:
        """The sizes, and the ring where it is not the whole disc."""
        defaults = {"batch_first": False, "r_min": 0.0, "r_max": 1.0, "max_phase": 2 * math.pi}
        changed = [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        sizes = f"{self.input_size}, {self.state_size}"
        if self.output_size != self.input_size:
            sizes += f", output_size={self.output_size}"
        return ", ".join([sizes, *changed])

    def walk(self, values: Tensor, ragged: Ragged, states: Any, traces: dict[str, Tensor] | None = None) -> Walk:
        """The layer over ragged values ``[N, I]``, from states in sorted order or None."""
        if values.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {values.shape[-1]}"
            )
        entering = at_least_float32(functional.linear(values, self.weight_in * self.gamma_log.exp().repeat(2)[:, None]))
        ((h_0,),) = self._layout.zeros(entering, ragged.num_rows) if states is None else states
        hidden, h_n = linear_scan(self._decay(), entering, h_0[0].to(entering.dtype), ragged, is_complex=True)
        if traces is not None:
            traces["hidden_l0"] = hidden
        output = functional.linear(hidden.to(values.dtype), self.weight_out) + functional.linear(
            values, self.weight_skip
        )
        # At a hole in a mask the output before it stands, and zeros before the first.
        return Walk(output, output, output.new_zeros(1, ragged.num_rows, self.output_size), "concat", [(h_n[None],)])

    def _enter_states(self, hx: Any, form: Form) -> list[tuple[Tensor, ...]] | None:
        self._layout.check_dimensions(hx, form)
        return self._layout.enter(hx, form)

    def _leave_states(self, last: list[Any], form: Form) -> Any:
        return self._layout.leave(last, form)

    def _decay(self) -> Tensor:
        """λ as ``[2S]`` real numbers."""
        magnitude, phase = (-at_least_float32(self.nu_log).exp()).exp(), at_least_float32(self.theta_log).exp()
        return torch.cat([magnitude * phase.cos(), magnitude * phase.sin()])
