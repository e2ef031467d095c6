"""Recurrent layers: the signature, parameters and results of torch.nn, over ragged rows inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tidegate.layers.recurrent_arguments import refuse_projection
from tidegate.layers.recurrent_base import RecurrentBase

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(RecurrentBase[Tensor]):
    r"""Plain recurrent units (Elman 1990), a drop-in replacement of :class:`torch.nn.RNN`.

    .. math:: h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})

    Parameters have torch's names, shapes and initialisation, so that state dicts interchange.

    Args:
        input_size: I, features of a step.
        hidden_size: H, units of a direction; or a list with those of each layer, first to last.
        num_layers: Stacked layers.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: Whether the products have biases.
        batch_first: Padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        dropout: Probability of dropout on the outputs of each layer but the last.
        bidirectional: A second set of weights walks each sequence from its own last step down; outputs are joined.
        device: Where the parameters are made.
        dtype: Their type.
        recurrent_dropout: Probability of dropout on h where it enters W_hh: one mask for a sequence, the same at every
            step (Gal & Ghahramani 2016, arXiv:1512.05287); in training alone.
        weight_dropout: Probability of dropping an entry of the recurrent weights, drawn once a call for all steps, in
            training alone (DropConnect, as in AWD-LSTM; Merity et al. 2018, arXiv:1708.02182). The parameters stay as
            they are.
        zoneout: Probability that a unit keeps its previous state for a step (Krueger et al. 2017, arXiv:1606.01305); in
            evaluation states are mixed by it.
        layer_norm: Normalise ``W_ih x`` and ``W_hh h``, each over its entries, and multiply by the gains
            ``norm_ih_l0`` and ``norm_hh_l0``, before biases are added (Ba et al. 2016, arXiv:1607.06450).
        learn_initial_state: The states to start from where no hx is given are the parameters ``h_0_l0`` ...
        merge: How the directions become a layer's output, in every layer of the stack: ``"concat"``, ``"sum"``,
            ``"mean"``, ``"product"``; or ``"none"``: they stay apart, each direction of a layer going on from the same
            direction of the one below (as in ELMo; Peters et al. 2018), and the output is ``[..., 2, H]``.
        residual: Add each layer's input to its output, through a matrix ``weight_res_l0`` where the sizes differ (He et
            al. 2016, eq. 2). Dropout between layers is for the layer alone, not for what is added.
        init: How the weights start, by name: see :func:`tidegate.initialize_`.

    Raises:
        ValueError: A size is not positive, a probability is none, a name is unknown, or options contradict each other.
        TypeError: A size is not an integer, or a switch not a bool.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: None = None,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        learn_initial_state: bool = False,
        merge: str = "concat",
        residual: bool = False,
        init: str | Sequence[str] = "torch",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        refuse_projection(proj_size)
        super().__init__(
            f"rnn_{nonlinearity}",
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            layer_norm=layer_norm,
            learn_initial_state=learn_initial_state,
            merge=merge,
            residual=residual,
            init=init,
        )
        self.nonlinearity = nonlinearity


class LSTM(RecurrentBase[tuple[Tensor, Tensor]]):
    r"""Long short-term memory (Hochreiter & Schmidhuber 1997), a drop-in replacement of :class:`torch.nn.LSTM`.

    .. math::
        i_t &= \sigma(W_{ii} x_t + b_{ii} + W_{hi} h_{t-1} + b_{hi}) \\
        f_t &= \sigma(W_{if} x_t + b_{if} + W_{hf} h_{t-1} + b_{hf}) \\
        g_t &= \tanh(W_{ig} x_t + b_{ig} + W_{hg} h_{t-1} + b_{hg}) \\
        o_t &= \sigma(W_{io} x_t + b_{io} + W_{ho} h_{t-1} + b_{ho}) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    Parameters have torch's names, shapes, gate order (i f g o) and initialisation, so that state dicts interchange.

    Args:
        input_size: I, features of a step.
        hidden_size: H, units of a direction; or a list with those of each layer, first to last.
        num_layers: Stacked layers.
        bias: Whether the products have biases.
        batch_first: Padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        dropout: Probability of dropout on the outputs of each layer but the last.
        bidirectional: A second set of weights walks each sequence from its own last step down; outputs are joined.
        proj_size: P, features that h is projected to by ``weight_hr_l0`` (Sak et al. 2014, arXiv:1402.1128), or 0.
        device: Where the parameters are made.
        dtype: Their type.
        recurrent_dropout: Probability of dropout on h where it enters W_hh: one mask for a sequence, the same at every
            step (Gal & Ghahramani 2016, arXiv:1512.05287); in training alone.
        weight_dropout: Probability of dropping an entry of the recurrent weights, drawn once a call for all steps, in
            training alone (DropConnect, as in AWD-LSTM; Merity et al. 2018, arXiv:1708.02182). The parameters stay as
            they are.
        zoneout: Probability that a unit keeps its previous state for a step (Krueger et al. 2017, arXiv:1606.01305),
            for both states or as the pair (zoneout_c, zoneout_h); in evaluation states are mixed by it.
        layer_norm: Normalise ``W_ih x`` and ``W_hh h``, each over its 4H entries, and multiply by the gains
            ``norm_ih_l0`` and ``norm_hh_l0``, before biases are added; and normalise c_t inside the last tanh, with the
            gain and bias ``norm_c_l0`` (Ba et al. 2016, arXiv:1607.06450).
        learn_initial_state: The states to start from where no hx is given are the parameters ``h_0_l0``, ``c_0_l0`` ...
        merge: How the directions become a layer's output, in every layer of the stack: ``"concat"``, ``"sum"``,
            ``"mean"``, ``"product"``; or ``"none"``: they stay apart, each direction of a layer going on from the same
            direction of the one below (as in ELMo; Peters et al. 2018), and the output is ``[..., 2, H]``.
        residual: Add each layer's input to its output, through a matrix ``weight_res_l0`` where the sizes differ (He et
            al. 2016, eq. 2). Dropout between layers is for the layer alone, not for what is added.
        init: How the weights start, by name: see :func:`tidegate.initialize_`.
        peephole: The gates see the cell state: i and f that of the step before, o the new one, through the weights
            ``peephole_l0`` (Gers & Schmidhuber 2000).

    Raises:
        ValueError: A size is not positive, a probability is none, `proj_size` is not smaller than `hidden_size`, a name
            is unknown, or options contradict each other.
        TypeError: A size is not an integer, or a switch not a bool.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        layer_norm: bool = False,
        learn_initial_state: bool = False,
        merge: str = "concat",
        residual: bool = False,
        init: str | Sequence[str] = "torch",
        peephole: bool = False,
    ) -> None:
        super().__init__(
            "lstm",
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            layer_norm=layer_norm,
            learn_initial_state=learn_initial_state,
            merge=merge,
            residual=residual,
            init=init,
            proj_size=proj_size,
            peephole=peephole,
        )


class GRU(RecurrentBase[Tensor]):
    r"""Gated recurrent units (Cho et al. 2014, arXiv:1406.1078), a drop-in replacement of :class:`torch.nn.GRU`.

    .. math::
        r_t &= \sigma(W_{ir} x_t + b_{ir} + W_{hr} h_{t-1} + b_{hr}) \\
        z_t &= \sigma(W_{iz} x_t + b_{iz} + W_{hz} h_{t-1} + b_{hz}) \\
        n_t &= \tanh(W_{in} x_t + b_{in} + r_t \odot (W_{hn} h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Parameters have torch's names, shapes, gate order (r z n) and initialisation, so that state dicts interchange.

    Args:
        input_size: I, features of a step.
        hidden_size: H, units of a direction; or a list with those of each layer, first to last.
        num_layers: Stacked layers.
        bias: Whether the products have biases.
        batch_first: Padded inputs and outputs are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        dropout: Probability of dropout on the outputs of each layer but the last.
        bidirectional: A second set of weights walks each sequence from its own last step down; outputs are joined.
        device: Where the parameters are made.
        dtype: Their type.
        recurrent_dropout: Probability of dropout on h where it enters W_hh: one mask for a sequence, the same at every
            step (Gal & Ghahramani 2016, arXiv:1512.05287); in training alone. The term z * h takes h unmasked.
        weight_dropout: Probability of dropping an entry of the recurrent weights, drawn once a call for all steps, in
            training alone (DropConnect, as in AWD-LSTM; Merity et al. 2018, arXiv:1708.02182). The parameters stay as
            they are.
        zoneout: Probability that a unit keeps its previous state for a step (Krueger et al. 2017, arXiv:1606.01305); in
            evaluation states are mixed by it.
        layer_norm: Normalise ``W_ih x`` and ``W_hh h``, each over its 3H entries, and multiply by the gains
            ``norm_ih_l0`` and ``norm_hh_l0``, before biases are added (Ba et al. 2016, arXiv:1607.06450). With
            ``reset_after=False`` the r and z of ``W_hh h`` are normalised together and ``W_hn (r * h)`` by itself.
        learn_initial_state: The states to start from where no hx is given are the parameters ``h_0_l0`` ...
        merge: How the directions become a layer's output, in every layer of the stack: ``"concat"``, ``"sum"``,
            ``"mean"``, ``"product"``; or ``"none"``: they stay apart, each direction of a layer going on from the same
            direction of the one below (as in ELMo; Peters et al. 2018), and the output is ``[..., 2, H]``.
        residual: Add each layer's input to its output, through a matrix ``weight_res_l0`` where the sizes differ (He et
            al. 2016, eq. 2). Dropout between layers is for the layer alone, not for what is added.
        init: How the weights start, by name: see :func:`tidegate.initialize_`.
        reset_after: The reset gate stands after the product, as above and in cuDNN and Keras 3; False puts it before,
            as Cho et al. 2014 have it: :math:`n_t = \tanh(W_{in} x_t + b_{in} + W_{hn} (r_t \odot h_{t-1}) + b_{hn})`.

    Raises:
        ValueError: A size is not positive, a probability is none, a name is unknown, or options contradict each other.
        TypeError: A size is not an integer, or a switch not a bool.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: None = None,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        learn_initial_state: bool = False,
        merge: str = "concat",
        residual: bool = False,
        init: str | Sequence[str] = "torch",
        reset_after: bool = True,
    ) -> None:
        refuse_projection(proj_size)
        super().__init__(
            "gru" if reset_after else "gru_reset_before",
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            layer_norm=layer_norm,
            learn_initial_state=learn_initial_state,
            merge=merge,
            residual=residual,
            init=init,
        )
        self.reset_after = reset_after
