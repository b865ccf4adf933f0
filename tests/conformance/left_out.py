"""Which of Keras's own tests are left out, on which backends, and why.

A test that is left out is run all the same where it can be, and has to fail in the way
that is named here: once it passes, or fails otherwise, the suite fails.
"""

from __future__ import annotations

from dataclasses import dataclass

ALL = ("tensorflow", "jax", "torch")
COMPILING = ("tensorflow", "jax")


@dataclass(frozen=True)
class LeftOut:
    """Tests left out for one reason.

    Attributes:
        reason: Why, in one sentence.
        tests: Patterns of `Case.test`.
        fails: What the type and message of its error contain, as a regular expression;
            None if the test is not run.
        backends: On which backends.
    """

    reason: str
    tests: tuple[str, ...]
    fails: str | None = None
    backends: tuple[str, ...] = ALL


# What holds of a model that looks like its network: its logs are Keras's own alone, its
# layers and its weights are those of the network. Else a least action model has more of
# each, which these tests list or count.
LOOKS_PLAIN = (
    "BackupAndRestoreCallbackTest.*",
    "CSVLoggerTest.test_CSVLogger",
    "TestTensorBoardV2.test_TensorBoard_[!p]*",
    "TestTensorBoardV2.test_custom_summary",
    "TestTrainer.test_callback_methods_keys",
    "TestTrainer.test_constraints_are_applied",
    "TestTrainer.test_evaluate_*",
    "TestTrainer.test_on_batch_methods_*",
    "TestTrainer.test_recompile",
    "TestTrainer.test_steps_per_*",
    "TestTrainer.test_training_arg",
)

LEFT_OUT = (
    LeftOut(
        "has a model class with a `call` of its own; a least action model has a "
        "network",
        (
            "TestTrainer.test_callbacks_can_update_state_at_batch_boundary",
            "TestTrainer.test_compute_loss_no_training_backwards_compatibility",
            "TestTrainer.test_evaluate_with_custom_compute_loss",
            "TestTrainer.test_fwd_pass_loss_presence_in_compute_loss",
            "TestTrainer.test_metric_update_in_compute_loss",
            "TestTrainer.test_nested_input_predict",
        ),
        "All `inputs` values must be KerasTensors. Received: inputs=None",
    ),
    LeftOut(
        "has a model class with a `call` of its own; a least action model has a "
        "network",
        ("TestTrainer.test_trainer_with_raggeds_model",),
        "All `inputs` values must be KerasTensors. Received: inputs=None",
        ("tensorflow",),  # Keras skips it on the others
    ),
    LeftOut(
        "has a model that is a single layer, of a class of its own",
        ("TestTrainer.test_metric_tracking", "TestTrainer.test_symbolic_build"),
        "no stand-in",
    ),
    LeftOut(
        "has a model that is a single layer, of a class of its own",
        ("TestTrainer.test_loss_scaling_prevents_underflow",),
        "no stand-in",
        COMPILING,  # Keras skips it on PyTorch
    ),
    LeftOut(
        "has no model, or one of its own that is no Keras model",
        (
            "BackupAndRestoreCallbackTest.test_backup_dir_*_error",
            "BackupAndRestoreCallbackTest.test_save_freq_unknown_error",
            "EarlyStoppingTest.test_early_stopping_final_weights*",
            "LambdaCallbackTest.test_lambda_callback_no_args",
            "LambdaCallbackTest.test_lambda_callback_with_additional_kwargs",
            "MonitorCallbackTest.test_min_delta",
            "TestTensorBoardV2.test_TensorBoard_write_*",
        ),
        "no stand-in",
    ),
    LeftOut(
        "adds layers to a model that is there; a least action model is built at once",
        (
            "CSVLoggerTest.test_stop_training_csv",
            "TerminateOnNaNTest.test_TerminateOnNaN",
        ),
        "'StandIn' object has no attribute 'add'",
    ),
    LeftOut(
        "counts the metrics of the model, among which are those of least action",
        (
            "TestTrainer.test_multiple_compiles",
            "TestTrainer.test_nested_trainer_metrics*",
        ),
        # The two models of the former have inputs of unlike shapes, not so stand-ins.
        r"AssertionError: \d != \d|expected shape=\(None, 4\)",
    ),
    LeftOut(
        "names a layer to `TensorBoard`, which finds the layers of a model and not "
        "those of the network within",
        ("TestTensorBoardV2.test_TensorBoard_projector_callback",),
        "Unrecognized `Embedding` layer names",
    ),
    LeftOut(
        "trains without a task, which least action needs: an error says so",
        ("TestTrainer.test_internal_only_loss",),
        "Least action needs a task",
    ),
    LeftOut(
        "needs grain, a library for data, which the tests do not install",
        ("TestTrainer.test_fit_with_data_adapter_grain_*",),
        "No module named 'grain'",
    ),
    LeftOut(
        "makes TensorFlow's devices anew, which the other tests of the process use; "
        "several devices are tested in processes of their own",
        ("SwapEMAWeightsTest.test_swap_ema_weights_with_tf_distribute",),
        None,
        ("tensorflow",),
    ),
    LeftOut(
        "profiles the process, which crashes with JAX on Python 3.11",
        ("TestTensorBoardV2.test_TensorBoard_auto_trace",),
        None,
        COMPILING,
    ),
    LeftOut(
        "forks the process of the tests, whose threads can make it hang; passes alone",
        ("TestTrainer.test_fit_with_data_adapter_py_dataset_multiprocessing*",),
        None,
        ("torch",),
    ),
    LeftOut(
        "takes seconds to compile, and the same test runs in another mode, with other "
        "numbers of steps or with another kind of data",
        (
            "TestTrainer.test_*_sparse_*_eager",
            "TestTrainer.test_evaluate_flow_graph_fn",
            "TestTrainer.test_fit_flow_graph_fn",
            "TestTrainer.test_fit_flow_steps_per_epoch_eager",
            "TestTrainer.test_fit_flow_steps_per_epoch_graph_fn",
            "TestTrainer.test_fit_with_data_adapter_*_infinite",
            "TestTrainer.test_fit_with_data_adapter_*_iterable",
            "TestTrainer.test_fit_with_data_adapter_native_array",
            "TestTrainer.test_fit_with_data_adapter_py_dataset_*_cw",
            "TestTrainer.test_fit_with_val_split_*eager",
            "TestTrainer.test_fit_with_val_split_jit",
            "TestTrainer.test_on_batch_methods_*graph_fn",
            "TestTrainer.test_predict_flow_*graph_fn",
            "TestTrainer.test_predict_flow_struct_eager",
            "TestTrainer.test_steps_per_epoch_match_one_epoch_jit",
            "TestTrainer.test_steps_per_epoch_not_match_too_low_jit",
            "TestTrainer.test_steps_per_execution_steps_count_3_eager",
            "TestTrainer.test_steps_per_execution_steps_count_3_non_jit",
            "TestTrainer.test_steps_per_execution_*_match_multi_epoch_jit",
            "TestTrainer.test_steps_per_execution_*_not_match_too_low_jit",
            "TestTrainer.test_fit_with_val_split_*graph_fn",
            "TestTrainer.test_predict_generator_1_*",
            "TestTrainer.test_predict_generator_50_eager",
            "TestTrainer.test_predict_preserve_order_1_*",
            "TestTrainer.test_predict_preserve_order_50_eager",
            "TestTrainer.test_steps_per_epoch_*_eager",
            "TestTrainer.test_steps_per_epoch_*_non_jit",
            "TestTrainer.test_steps_per_execution_steps_count_101_*",
            "TestTrainer.test_steps_per_execution_steps_count_unknown_*_101_*",
            "TestTrainer.test_steps_per_execution_steps_count_unknown_*_3_eager",
            "TestTrainer.test_steps_per_execution_steps_count_unknown_*_3_non_jit",
            "TestTrainer.test_steps_per_execution_steps_per_epoch_*_eager",
            "TestTrainer.test_steps_per_execution_steps_per_epoch_*_non_jit",
            "TestTrainer.test_steps_per_execution_steps_per_epoch_unknown_*_match_[!b]*",
            "TestTrainer.test_steps_per_execution_unrolled_*_[38]",
        ),
        None,
        COMPILING,
    ),
    LeftOut(
        "takes seconds to compile, and the same test runs with the backend's own "
        "tensors",
        ("TestTrainer.test_*_sparse_tf_*",),
        None,
        ("jax",),
    ),
    LeftOut(
        "takes seconds to compile, and the same test runs with the backend's own "
        "tensors",
        ("TestTrainer.test_*_sparse_jax_*",),
        None,
        ("tensorflow",),
    ),
)
