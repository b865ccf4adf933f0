"""Keras's tests of its trainer, on least action models."""

from __future__ import annotations

from keras_tests import conforming

TestTrainer = conforming(
    "trainers.trainer_test",
    "TestTrainer",
    {
        "*": (4,),
        "*_dataloader_iterable*": (5, 4),  # batches of batches
        "test_constraints_are_applied": (3,),
        "test_evaluate_return_list*": (2,),
        "test_internal_only_loss": (2,),
        "test_recompile": (2,),
        "test_stop_loop*": (2,),
        "test_validation_data_infinite*": (2,),
    },
)
JAXTrainerCorrectnessTest = conforming(
    "trainers.trainer_test", "JAXTrainerCorrectnessTest", {"*": (8,)}
)
