"""Keras's tests of its callbacks, on least action models."""

from __future__ import annotations

from keras_tests import conforming


def of(module, case, shape, **others):
    return conforming(f"callbacks.{module}_test", case, {"*": shape, **others})


CSVLoggerTest = of("csv_logger", "CSVLoggerTest", (3,))
EarlyStoppingTest = of(
    "early_stopping", "EarlyStoppingTest", (5,), test_early_stopping_reuse=(1,)
)
BackupAndRestoreCallbackTest = of(
    "backup_and_restore", "BackupAndRestoreCallbackTest", (3,)
)
LambdaCallbackTest = of("lambda_callback", "LambdaCallbackTest", (2,))
LearningRateSchedulerTest = of(
    "learning_rate_scheduler", "LearningRateSchedulerTest", (3,)
)
ModelCheckpointTest = of("model_checkpoint", "ModelCheckpointTest", (3,))
MonitorCallbackTest = of("monitor_callback", "MonitorCallbackTest", (5,))
ReduceLROnPlateauTest = of("reduce_lr_on_plateau", "ReduceLROnPlateauTest", (3,))
SwapEMAWeightsTest = of("swap_ema_weights", "SwapEMAWeightsTest", (3,))
TerminateOnNaNTest = of(
    "terminate_on_nan", "TerminateOnNaNTest", (1,), test_TerminateOnNaN=(3,)
)
TestTensorBoardV2 = of("tensorboard", "TestTensorBoardV2", (1,))
