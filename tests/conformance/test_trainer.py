from stand_in import conforming
TestTrainer = conforming("trainers.trainer_test", "TestTrainer", {"": 4, "test_recompile": 2,"test_evaluate_return_list":2,"test_validation_data_inf":2,"test_stop_loop":2}, {})
