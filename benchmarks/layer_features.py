"""What the recurrent layers of tidegate and of torch.nn can do: each feature tried on both, and what came of it.

    python benchmarks/layer_features.py [--json benchmarks/results/layer_features.json] [--only NAME]

A feature is there where its check (layer_checks.py) returns. A check compares values wherever there is something to
compare, and any error is kept, its first line, as the reason why not. The same few lines run for both libraries; where
torch.nn has another way to the same end (packed sequences for lengths), that way is taken. `test` names the test that
proves a "yes" of tidegate.
"""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import layer_checks as checks
from layer_checks import CELLS, LIBRARIES, Library
from side_by_side import arguments, machine, write_json

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Feature:
    """One row of the table: a name, its group, the check, the test that proves ours, and the cells it is for."""

    group: str
    name: str
    check: Callable[[Library, str], None]
    test: str
    cells: tuple[str, ...] = CELLS


_RECURRENT = "tests/layers/test_recurrent.py::"
_OPTIONS = "tests/layers/test_recurrent_options.py::"
_FORMS = "tests/layers/test_forms.py::"
_COPIES = _RECURRENT + "test_deepcopy_pickle_and_meta"
FEATURES = [
    Feature(
        "PyTorch",
        "torch.compile(fullgraph=True), forward and backward",
        checks.compiles,
        _RECURRENT + "test_compiles_whole_forward_and_backward",
    ),
    Feature(
        "PyTorch",
        "the same with torch._dynamo.config.allow_rnn",
        checks.compiles_where_allowed,
        _RECURRENT + "test_compiles_whole_forward_and_backward",
    ),
    Feature(
        "PyTorch",
        "torch.compile(fullgraph=True) over sequences of different lengths",
        lambda lib, cell: checks.compiles(lib, cell, True),
        _RECURRENT + "test_compiles_whole_forward_and_backward",
    ),
    Feature("PyTorch", "torch.export", checks.exports, _RECURRENT + "test_exports"),
    Feature(
        "PyTorch",
        "torch.export over sequences of different lengths",
        lambda lib, cell: checks.exports(lib, cell, True),
        _RECURRENT + "test_exports_with_lengths",
    ),
    Feature(
        "PyTorch",
        "gradients of each sample by vmap",
        checks.per_sample_gradients,
        _RECURRENT + "test_gradients_of_each_sample_by_vmap",
    ),
    Feature(
        "PyTorch",
        "torch.func.functional_call",
        checks.calls_functionally,
        _RECURRENT + "test_gradients_of_each_sample_by_vmap",
    ),
    Feature(
        "PyTorch",
        "second derivatives on a CPU",
        checks.differentiates_twice,
        "tests/kernels/test_recurrence_in_torch.py::test_derivatives_against_finite_differences",
    ),
    Feature("PyTorch", "autocast to bfloat16 on a CPU", checks.autocasts, _RECURRENT + "test_runs_under_autocast"),
    Feature("PyTorch", "bfloat16 on a CPU", checks.computes_in(torch.bfloat16), _RECURRENT + "test_runs_in_half_types"),
    Feature("PyTorch", "float16 on a CPU", checks.computes_in(torch.float16), _RECURRENT + "test_runs_in_half_types"),
    Feature("PyTorch", "deepcopy", checks.copies(copy.deepcopy), _COPIES),
    Feature("PyTorch", "pickle", checks.copies(lambda layer: pickle.loads(pickle.dumps(layer))), _COPIES),
    Feature(
        "PyTorch",
        "DataParallel",
        checks.copies(nn.DataParallel),
        "tests/layers/test_weight_dropout.py::test_it_survives_what_modules_go_through",
    ),
    Feature(
        "PyTorch",
        "the other library's state_dict",
        checks.exchanges_state_dicts,
        _RECURRENT + "test_one_seed_gives_torchs_weights",
    ),
    Feature("PyTorch", "forward on meta", checks.runs_on_meta, _COPIES),
    Feature(
        "Sequences",
        "sequences of different lengths",
        checks.takes_lengths(torch.int64),
        _FORMS + "test_lengths_equal_torch_on_each_row",
    ),
    Feature(
        "Sequences",
        "lengths of int32",
        checks.takes_lengths(torch.int32),
        _FORMS + "test_lengths_of_any_integer_type_and_as_a_list",
    ),
    Feature(
        "Sequences",
        "lengths of uint8",
        checks.takes_lengths(torch.uint8),
        _FORMS + "test_lengths_of_any_integer_type_and_as_a_list",
    ),
    Feature(
        "Sequences",
        "lengths on the input's device",
        checks.takes_lengths_on_the_device,
        "tests/kernels/test_cuda.py::test_layers_on_a_gpu_are_those_on_a_cpu",
    ),
    Feature(
        "Sequences",
        "a sequence of length zero",
        checks.takes_lengths(torch.int64, torch.tensor([3, 0, 5])),
        _FORMS + "test_lengths_equal_torch_on_each_row",
    ),
    Feature(
        "Sequences", "a mask with holes", checks.takes_masks, _FORMS + "test_masks_with_holes_equal_torch_on_each_row"
    ),
    Feature("Sequences", "unbatched input", checks.unbatched, _RECURRENT + "test_equals_torch_on_unbatched_input"),
    Feature(
        "Sequences",
        "state in, state out",
        checks.chunks,
        "tests/layers/test_sequence_layer.py::test_steps_and_chunks_equal_the_whole",
    ),
    Feature(
        "Sequences",
        "a layer's single step",
        checks.steps,
        "tests/layers/test_sequence_layer.py::test_steps_and_chunks_equal_the_whole",
    ),
    Feature(
        "Sequences",
        "every gate and state of a call",
        checks.traces,
        "tests/layers/test_tracing.py::test_traces_satisfy_the_equations",
    ),
    Feature(
        "Options",
        "dropout between layers",
        checks.has(True, dropout=0.5),
        _RECURRENT + "test_dropout_stands_between_layers_in_training_only",
    ),
    Feature(
        "Options",
        "recurrent dropout",
        checks.has(True, recurrent_dropout=0.5),
        _OPTIONS + "test_recurrent_dropout_draws_one_mask_a_sequence",
    ),
    Feature(
        "Options",
        "weight dropout (DropConnect)",
        checks.has(True, weight_dropout=0.5),
        "tests/layers/test_weight_dropout.py::test_training_is_a_call_with_dropped_recurrent_weights",
    ),
    Feature(
        "Options",
        "weight dropout after deepcopy and .to()",
        checks.survives_moves,
        "tests/layers/test_weight_dropout.py::test_it_survives_what_modules_go_through",
    ),
    Feature(
        "Options",
        "zoneout",
        checks.has(zoneout=0.5),
        _OPTIONS + "test_zoneout_keeps_units_in_training_and_mixes_in_evaluation",
    ),
    Feature(
        "Options",
        "layer normalisation",
        checks.has(layer_norm=True),
        _OPTIONS + "test_layer_norm_has_gains_that_start_at_one",
    ),
    Feature(
        "Options",
        "residual connections",
        checks.has(residual=True),
        _FORMS + "test_masks_with_holes_equal_torch_on_each_row",
    ),
    Feature(
        "Options",
        "learned initial states",
        checks.has(learn_initial_state=True),
        _OPTIONS + "test_learned_initial_states_are_where_no_state_is_given",
    ),
    Feature(
        "Options",
        "directions merged by sum",
        checks.merges("sum"),
        _FORMS + "test_masks_with_holes_equal_torch_on_each_row",
    ),
    Feature(
        "Options",
        "directions merged by mean",
        checks.merges("mean"),
        _FORMS + "test_masks_with_holes_equal_torch_on_each_row",
    ),
    Feature(
        "Options",
        "directions merged by product",
        checks.merges("product"),
        _FORMS + "test_masks_with_holes_equal_torch_on_each_row",
    ),
    Feature(
        "Options",
        "directions apart through all layers",
        checks.merges("none"),
        _FORMS + "test_masks_with_holes_equal_torch_on_each_row",
    ),
    Feature(
        "Options",
        "layers of different sizes",
        checks.has(hidden_size=[4, 5]),
        "tests/layers/test_states.py::test_sizes_of_their_own_and_what_the_layer_says_of_them",
    ),
    Feature(
        "Options",
        "initialisation by name",
        checks.has(init="orthogonal"),
        "tests/layers/test_initialization.py::test_orthogonal_is_of_each_gates_recurrent_matrix_and_nothing_else",
    ),
    Feature("Options", "projection", checks.projects, _RECURRENT + "test_equals_torch_on_padded_input", ("LSTM",)),
    Feature(
        "Options",
        "peepholes",
        checks.has(peephole=True),
        _OPTIONS + "test_all_options_at_once_are_the_references",
        ("LSTM",),
    ),
    Feature(
        "Options",
        "reset gate before the product",
        checks.has(reset_after=False),
        _OPTIONS + "test_reset_before_is_another_function",
        ("GRU",),
    ),
]


def try_feature(feature: Feature, library: Library, cell: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            feature.check(library, cell)
        except Exception as error:  # whatever keeps it from working is the result
            first = str(error).strip().splitlines() or [""]
            return {"works": False, "why": f"{type(error).__name__}: {first[0]}"[:200]}
    return {"works": True, "why": ""}


def check_test_exists(feature: Feature) -> None:
    path, name = feature.test.split("::")
    if not re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE):
        raise SystemExit(f"{feature.name} names a test that is not there: {feature.test}")


def main() -> None:
    parser = arguments(__doc__, threads=False, timed=False)
    given = parser.parse_args()
    rows = []
    for feature in FEATURES:
        if given.only and given.only not in feature.name:
            continue
        check_test_exists(feature)
        row: dict[str, Any] = {"name": feature.name, "group": feature.group, "test": feature.test}
        for library in LIBRARIES:
            row[library.name] = {cell: try_feature(feature, library, cell) for cell in feature.cells}
        rows.append(row)
        shown = "  ".join(
            f"{name} " + " ".join(f"{cell}:{'yes' if tried['works'] else 'no':3}" for cell, tried in row[name].items())
            for name in ("tidegate", "torch.nn")
        )
        print(f"{feature.name:58} {shown}", flush=True)
        for name in ("tidegate", "torch.nn"):
            for why in sorted({tried["why"] for tried in row[name].values()} - {""}):
                print(f"    {name}: {why}")
    if given.json:
        write_json(given.json, {"machine": machine(), "rows": rows})
    if missing := [row["name"] for row in rows if not all(tried["works"] for tried in row["tidegate"].values())]:
        raise SystemExit(f"tidegate lacks: {', '.join(missing)}")


if __name__ == "__main__":
    main()
