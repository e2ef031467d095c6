"""The layers beside RNN, LSTM and GRU for docs/layers.md: what each is, what is held of it, and by which test."""

from __future__ import annotations

from typing import NamedTuple


class Section(NamedTuple):
    """A heading of the page: its text, and claims with the tests that prove them."""

    title: str
    text: str
    claims: list[tuple[str, str]]


def _of(path: str, *claims: tuple[str, str]) -> list[tuple[str, str]]:
    return [(claim, f"tests/{path}.py::{name}") for claim, name in claims]


SECTIONS = [
    Section(
        "In place of torch.nn",
        "`tidegate.replace_(model)` swaps every recurrent layer of torch.nn in a model and keeps the weights.",
        _of(
            "layers/test_drop_in",
            (
                "PyTorch's documented examples and the shapes of AWD-LSTM, Lample's tagger and DeepSpeech 2: values "
                "and gradients in float64",
                "test_values_and_gradients_are_those_of_torch",
            ),
            ("the same after a swap", "test_so_they_are_after_a_swap"),
            ("DeepSpeech 2's summed directions", "test_deep_speechs_summed_directions_are_merge_sum"),
            ("AWD-LSTM's layers as a list of sizes", "test_awd_lstms_layers_are_a_list_of_sizes"),
        )
        + _of(
            "layers/test_replace",
            ("every layer of a module tree", "test_swaps_every_layer_and_keeps_the_results"),
            ("optimisers and hooks go on", "test_an_optimizer_and_hooks_go_on"),
        ),
    ),
    Section(
        "Options under torch's transforms",
        "Masks, merged directions, residual connections, dropped weights and mixed stacks together.",
        _of(
            "layers/test_options_in_torch",
            ("`torch.compile(fullgraph=True)`, with a mask", "test_compiles_whole_with_a_mask"),
            ("`torch.export`", "test_exports"),
            ("`torch.export` with a mask", "test_exports_with_a_mask"),
            ("gradients of each sample by vmap", "test_gradients_of_each_sample_by_vmap"),
            ("vmap over inputs that share a mask or lengths", "test_vmap_over_inputs_of_one_mask_or_lengths"),
            ("single steps, traces and heads compile whole", "test_steps_traces_and_heads_compile_whole"),
            ("autocast and bfloat16", "test_runs_under_autocast_and_in_bfloat16"),
            ("deepcopy, pickle, state dicts, meta", "test_copies_pickles_state_dicts_and_meta"),
            ("second derivatives", "test_second_derivatives"),
        ),
    ),
    Section(
        "Stacks and heads",
        "`RecurrentStack(cells=[...])`, by name `gru-blstm`; `TimeDistributed(module)` at every real step.",
        _of(
            "layers/test_stack",
            (
                "mixed stacks, residual ones too, are torch's layers",
                "test_mixed_stacks_equal_torchs_layers_on_each_row",
            ),
            (
                "`gru-blstm`",
                "test_the_named_stack_is_a_bidirectional_gru_under_a_bidirectional_lstm",
            ),
            ("layers of every kind in one stack", "test_a_stack_of_layers_of_every_kind"),
            ("states go in and come out", "test_states_go_in_and_come_out"),
        )
        + _of(
            "layers/test_time_distributed",
            ("a head sees each step and no padding", "test_the_module_sees_each_step_and_no_padding"),
            (
                "batch statistics are of real steps alone",
                "test_after_a_recurrent_layer_batch_statistics_are_of_steps_alone",
            ),
        ),
    ),
    Section(
        "MinGRU and MinLSTM",
        "Feng et al. 2024 (arXiv:2410.01201): gates see the input alone, so all steps are one parallel scan.",
        _of(
            "layers/test_minimal",
            ("the equations, and gradients", "test_equals_the_equations_and_so_do_gradients"),
            ("the paper's form in the space of logarithms", "test_equals_the_papers_log_space_form"),
            ("lengths, masks, packed, unbatched: one sequence", "test_every_form_of_input_is_the_same_sequence"),
            ("a masked step carries the state through", "test_a_masked_step_carries_the_state_through"),
            ("steps and chunks are the whole", "test_single_steps_and_chunks_equal_the_whole"),
            ("traces", "test_traces_are_what_was_computed"),
            ("compile, export, copies", "test_compiles_exports_and_copies"),
            ("gradients of each sample by vmap", "test_gradients_of_each_sample_by_vmap"),
        )
        + _of(
            "kernels/test_minimal",
            ("native kernel, reference and torch agree", "test_backends_equal_the_reference"),
            ("derivatives of first and second order", "test_gradients_of_first_and_second_order"),
            ("gates near 0 and 1", "test_extreme_gates"),
        )
        + _of(
            "kernels/test_scan",
            ("the scan is the plain loop", "test_backends_equal_the_reference"),
            ("its derivatives", "test_gradients_of_first_and_second_order"),
            ("one thread and many agree", "test_one_thread_equals_many"),
        ),
    ),
    Section(
        "LRU",
        "The linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349), over the same scan with complex states.",
        _of(
            "layers/test_lru",
            ("the equations, and gradients", "test_equals_the_equations_and_so_do_gradients"),
            ("a long convolution", "test_equals_a_long_convolution"),
            (
                "forms of input, chunks and steps",
                "test_forms_of_input_chunks_and_steps_are_the_same_sequence",
            ),
            ("padding is never read", "test_padding_is_never_read_and_a_hole_repeats_the_output"),
            ("eigenvalues start on the ring", "test_eigenvalues_start_on_the_ring_and_states_of_equal_size"),
            ("it learns over 400 steps", "test_long_memory_trains"),
            ("compile, export, vmap", "test_compiles_exports_and_maps"),
        ),
    ),
    Section(
        "Attention",
        "`AdditiveAttention` pools a row to a vector; `BahdanauAttention` and `LuongAttention` take a query; "
        "`MultiHeadAttention` has torch.nn's parameters. All are ragged: no padded step has a weight.",
        _of(
            "layers/test_attention",
            ("pooling is a loop over the rows", "test_pooling_equals_a_loop_over_the_rows"),
            ("weights sum to one", "test_attention_weights_sum_to_one_in_each_row"),
            ("masked steps are left out", "test_masked_steps_are_left_out"),
        )
        + _of(
            "layers/test_query_attention",
            ("one query a row, additive and product scores", "test_one_query_a_row"),
            ("many queries a row", "test_many_queries_a_row"),
            (
                "keys prepared once serve every step",
                "test_what_is_prepared_once_serves_every_step_and_keys_are_their_own_values",
            ),
            ("a decoder's step compiles", "test_one_step_of_a_decoder_compiles"),
        )
        + _of(
            "layers/test_multihead",
            ("self-attention and its weights are torch's", "test_self_attention_and_its_weights_equal_torchs"),
            ("attention to other rows is torch's", "test_cross_attention_equals_torchs_on_each_row"),
            ("initialisation is torch's", "test_initialisation_is_torchs"),
        )
        + _of(
            "kernels/test_attention",
            ("every row by itself, and gradients", "test_equals_every_row_by_itself_and_so_do_gradients"),
            ("compile", "test_compiles_whole_forward_and_backward"),
        ),
    ),
    Section(
        "TransformerEncoder",
        "The comparison model, ragged too, with the parameters of `torch.nn.TransformerEncoderLayer`.",
        _of(
            "layers/test_transformer",
            ("values and gradients are torch's", "test_equals_torchs_on_each_row_values_and_gradients"),
            ("torch's weights without biases", "test_one_layer_without_biases_takes_torchs_weights"),
            ("causal attention is torch's mask", "test_causal_attention_equals_torchs_mask"),
            ("no padded step is computed", "test_no_padded_step_is_computed"),
            ("positions are the paper's", "test_positions_are_the_papers"),
            ("compile", "test_compiles_whole_forward_and_backward"),
            ("gradients of each sample by vmap", "test_gradients_of_each_sample_by_vmap"),
        ),
    ),
    Section(
        "CRF",
        "The linear-chain conditional random field over a native kernel.",
        _of(
            "kernels/test_crf",
            ("the sum over all paths, enumerated", "test_equals_the_enumeration_of_all_paths"),
            ("the k best paths", "test_the_k_best_paths_are_those_of_the_enumeration"),
            ("marginals sum to one", "test_marginals_sum_to_one"),
            ("the package pytorch-crf agrees", "test_equals_pytorch_crf"),
        )
        + _of(
            "layers/test_crf",
            ("any start, end and transition may be forbidden", "test_masks_forbid"),
            ("legality from the labels (BIO, BIOES ...)", "test_legality_is_built_from_the_labels"),
            ("probabilities of the k best", "test_probabilities_of_the_k_best"),
            ("the state dict is pytorch-crf's", "test_the_state_dict_is_that_of_pytorch_crf"),
            ("compile", "test_compiles_whole_forward_and_backward"),
            ("decoding compiles and exports", "test_decoding_compiles_and_exports"),
        ),
    ),
    Section(
        "Weights from and to Keras",
        "`from_keras`, `load_keras_`, `to_keras`: SimpleRNN, LSTM, GRU in both reset modes, Bidirectional.",
        _of(
            "layers/test_keras_weights",
            ("their weights give their values here", "test_a_layer_from_keras_gives_what_keras_gives"),
            ("ours give our values there", "test_our_weights_give_keras_our_values"),
            ("there and back", "test_there_and_back_is_the_same"),
            ("Bidirectional in every merge mode", "test_bidirectional_in_every_merge_mode"),
        ),
    ),
    Section(
        "Weights from and to ONNX",
        "`from_onnx`, `load_onnx_`, `to_onnx`: the weights of RNN, LSTM and GRU nodes.",
        _of(
            "layers/test_onnx_weights",
            (
                "ONNX Runtime computes the node as we do, and it comes back",
                "test_onnx_runtime_computes_the_node_as_we_do_and_we_take_it_back",
            ),
            ("every layer of a stack is a node", "test_every_layer_of_a_stack_is_a_node"),
            ("exported attributes are read", "test_exported_attributes_are_read_as_they_come"),
            ("options that ONNX has not are refused", "test_options_that_onnx_has_not_are_refused"),
        ),
    ),
    Section(
        "The update gate's sign",
        "Papers write the GRU's update gate either way; `negate_update_gate_` turns weights of the one into the other.",
        _of(
            "layers/test_update_gate",
            ("weights of the other sign become ours", "test_a_papers_weights_become_ours"),
            ("in every layer and direction", "test_every_update_gate_is_one_minus_what_it_was"),
        ),
    ),
]
