"""The mistakes that ``make mutants`` makes: file, text, what the mistake makes of it, and the test that must fail."""

# ruff: noqa: E501 a row is a line
from __future__ import annotations

from mutants import Mutant

WING = "src/PACKAGE/runtime/"
FRONT = ".tasks/image_classification/src/PACKAGE/"
RUNTIME_TESTS = "project/tests/runtime/"

# These were seen to survive the tests of an earlier state (those of them whose code is still there).
SURVIVED = (
    Mutant(
        WING + "commands/sweep.py",
        "while len(self._trials(State.COMPLETE, State.PRUNED)) < wanted:",
        "while len(self._trials(*State)) < wanted:",
        "tests/test_sweep.py -k two_writes and before",
    ),
    Mutant(
        WING + "checkpoints.py",
        'return torch.load(file, map_location="cpu", weights_only=True)',
        'return torch.load(file, map_location="cpu", weights_only=False)',
        "tests/promises/test_safety.py -k checkpoint",
    ),
    Mutant(
        WING + "resume.py",
        "if before != trainer.world_size:",
        "if False:",
        RUNTIME_TESTS + "test_resume.py -k number_of_processes",
    ),
    Mutant(
        WING + "resume.py",
        "fit_loop._restarting = False  # else",
        "pass  # else",
        RUNTIME_TESTS + "test_resume.py -k interrupted_epoch",
    ),
    Mutant(
        WING + "resume.py",
        'loop.val_loop.batch_progress.load_state_dict(self._restored.pop("validation"))',
        'self._restored.pop("validation")',
        RUNTIME_TESTS + "test_resume.py -k interrupted_epoch",
    ),
    Mutant(
        WING + "loaders.py",
        'self.key, self.epoch, self.ended = (exact.seed, STAGES["train"], number, epoch, self.cycle), epoch, False',
        'self.key, self.epoch, self.ended = (exact.seed, STAGES["train"], number, 0, self.cycle), epoch, False',
        RUNTIME_TESTS + "test_resume.py -k each_item_once",
    ),
    Mutant(
        FRONT + "module.py",
        "weight=self.loss_weights, label_smoothing=self.label_smoothing)",
        "weight=self.loss_weights)",
        "project/tests/test_module.py -k smoothed",
    ),
    Mutant(
        FRONT + "module.py",
        "self.scheduler, self.scheduler_interval)",
        "self.scheduler)",
        "project/tests/test_module.py -k schedule",
    ),
    Mutant(FRONT + "datasets.py", "mean=(0.1307,),\n        std=(0.3081,),\n        class_names=_DIGITS,\n        torchvision", "mean=(0.1307,),\n        std=(0.3881,),\n        class_names=_DIGITS,\n        torchvision", "project/tests/test_data.py -k published"),
    Mutant(FRONT + "datasets.py", "(0.4914, 0.4822, 0.4465)", "(0.4914, 0.4465, 0.4822)", "project/tests/test_data.py -k published"),
    Mutant(FRONT + "inputs.py", "image = ImageOps.exif_transpose(image)", "pass", "project/tests/test_data.py -k camera"),
    Mutant(FRONT + "evaluation.py", "square / (4 * count)", "square / (2 * count)", "project/tests/test_evaluation.py -k wilsons"),
    Mutant(WING + "commands/export.py", "default=1e-4", "default=1e-1", "tests/test_export.py -k all_test_digits"),
    Mutant(FRONT + "evaluation.py", "argsort(descending=True, stable=True)", "argsort(stable=True)", "project/tests/test_evaluation.py -k surest"),
    Mutant(WING + "commands/comparison.py", "(len(found) - i) * one.p", "one.p", "tests/test_drift.py -k more_comparisons"),
    Mutant(WING + "runs.py", "os.fsync(stream.fileno())", "pass", RUNTIME_TESTS + "test_runs.py -k on_the_disk"),
    Mutant(WING + "callbacks.py", 'items = trainer.strategy.reduce(torch.tensor(self._items, device=pl_module.device), reduce_op="sum")', "items = self._items", RUNTIME_TESTS + "test_training.py -k items_of_all"),
    Mutant(WING + "runs.py",  '"dirty": any(not line', '"dirty": not any(not line', RUNTIME_TESTS + "test_runs.py -k commit"),
    Mutant(WING + "predictions.py", "order = index.argsort(stable=True)", "order = index.argsort(stable=True) * 0 + torch.arange(len(index))", RUNTIME_TESTS + "test_predictions.py -k sorted_by_index"),
)  # fmt: skip
# These were written before a look at the tests, and committed before they were made.
NEW = (
    # the contract, links, options
    Mutant(WING + "contract.py", 'found[1] not in ("max", "min") or ', "", RUNTIME_TESTS + "test_contract.py -k headline"),
    Mutant(WING + "contract.py", "is_plain = ast.literal_eval(repr(value)) == value", "is_plain = True", RUNTIME_TESTS + "test_contract.py -k plain_value"),
    Mutant(WING + "contract.py", "inspect.signature(method).bind(*[None] * (count + 1))", "pass", RUNTIME_TESTS + "test_contract.py -k method_of"),
    Mutant(WING + "contract.py", 'if self.has("fold") != self.has("num_folds"):', "if False:", RUNTIME_TESTS + "test_contract.py -k two_for_folds"),
    Mutant(WING + "changes.py", "for name in {*before, *now} - CHANGEABLE", "for name in {*before} - CHANGEABLE", RUNTIME_TESTS + "test_runs.py -k option_that_is_new"),
    Mutant(WING + "changes.py", ' if not name.endswith("num_workers")', "", RUNTIME_TESTS + "test_resume.py -k random_numbers"),
    Mutant(WING + "parser.py", "allow_abbrev=False", "allow_abbrev=True", RUNTIME_TESTS + "test_parser.py"),
    Mutant(WING + "parser.py", "cutoff=0.6", "cutoff=0.99", RUNTIME_TESTS + "test_parser.py"),
    # runs, locks, files
    Mutant(WING + "runs.py", "os.replace(temporary, file)", "shutil.copy(temporary, file)", RUNTIME_TESTS + "test_runs.py -k whole_or_not"),
    Mutant(WING + "runs.py", 'return "interrupted" if status == "running" and not self.in_use() else status', "return status", RUNTIME_TESTS + "test_runs.py -k says_it_runs"),
    Mutant(WING + "runs.py", "reverse=True)", "reverse=False)", RUNTIME_TESTS + "test_runs.py -k newest_run_is_found"),
    Mutant(WING + "runs.py", "(run.record.get(\"debug\") if finished else run.in_use())", "(run.in_use())", "tests/promises/test_debugging_runs.py -k no_command"),
    Mutant(WING + "runs.py", "_free(folder.with_name(f\"{run.name}_failed\"))", "folder.with_name(f\"{run.name}_failed\")", RUNTIME_TESTS + "test_runs.py -k makes_room"),
    Mutant(WING + "runs.py", 'name.strip(".") == ""', "False", RUNTIME_TESTS + "test_runs.py -k folder_s"),
    Mutant(WING + "runs.py", "except filelock.Timeout:\n            return True", "except filelock.Timeout:\n            return False", RUNTIME_TESTS + "test_runs.py -k says_it_runs"),
    # checkpoints and resume
    Mutant(WING + "checkpoints.py", "if damaged := archive.testzip():", "if damaged := None:", RUNTIME_TESTS + "test_resume.py -k one_bit"),
    Mutant(WING + "runs.py", "os.replace(file, keep)", "pass", RUNTIME_TESTS + "test_named_callbacks.py -k takes_the_place"),
    Mutant(WING + "checkpoints.py", "in_epoch = epochs[\"started\"] > epochs[\"processed\"]", "in_epoch = True", RUNTIME_TESTS + "test_resume.py -k train_longer"),
    Mutant(WING + "resume.py", "steps - self.saved_at >= self.every_n_steps", "steps - self.saved_at > self.every_n_steps", RUNTIME_TESTS + "test_resume.py -k so_many_steps"),
    Mutant(WING + "resume.py", "if batch_idx % trainer.accumulate_grad_batches or ", "if ", RUNTIME_TESTS + "test_resume.py -k gradients"),
    Mutant(WING + "states.py", "result.cumulated_batch_size = before[\"cumulated_batch_size\"] + result.cumulated_batch_size", "pass", RUNTIME_TESTS + "test_resume.py -k without_a_step"),
    Mutant(WING + "resume.py", "trainer.should_stop = True  # as early stopping had it", "pass", "tests/promises/test_resume.py -k early"),
    Mutant(WING + "resume.py", "if not math.isfinite(loss.item()):", "if False:", RUNTIME_TESTS + "test_training.py -k not_finite"),
    # loaders and random numbers
    Mutant(WING + "randomness.py", "np.random.seed(value & 0xFFFFFFFF)", "pass", RUNTIME_TESTS + "test_resume.py -k random_numbers"),
    Mutant(WING + "randomness.py", "    random.seed(value)", "    pass", RUNTIME_TESTS + "test_resume.py -k random_numbers"),
    Mutant(WING + "randomness.py", "for _ in range(done):\n            next(indices, None)", "pass", RUNTIME_TESTS + "test_resume.py -k each_item_once"),
    Mutant(WING + "randomness.py", "seed_streams(value, _held_by_worker())", "seed_streams(value)", RUNTIME_TESTS + "test_resume.py -k random_numbers"),
    Mutant(WING + "loaders.py", "return hash((*self.key, self.exact.trainer.global_rank))", "return hash(self.key)", RUNTIME_TESTS + "test_loaders.py -k process"),
    Mutant(WING + "loaders.py", "found = [state for number, state in self._states if number == trained]", "found = [state for number, state in self._states]", RUNTIME_TESTS + "test_loaders.py -k its_position"),
    Mutant(WING + "speed.py", " or self.trainer.accumulate_grad_batches > 1:", ":", "tests/promises/test_resume.py -k summed_from"),
    Mutant(WING + "data.py", "places[self.rank :: self.world_size][", "places[self.rank :][", RUNTIME_TESTS + "test_gathering.py"),
    Mutant(WING + "parts.py", "if not 0 < fraction < 1:", "if not 0 <= fraction < 1:", RUNTIME_TESTS + "test_parts.py"),
    Mutant(WING + "predictions.py", "cell.parent == Path(folder.name) and ", "", RUNTIME_TESTS + "test_predictions.py"),
    Mutant(WING + "data.py", "shuffle = train and not (trainer and trainer.overfit_batches)", "shuffle = train", RUNTIME_TESTS + "test_gathering.py -k overfitted"),
    Mutant(WING + "data.py", 'order[np.argsort(np.asarray(labels)[order], kind="stable")]', "order", RUNTIME_TESTS + "test_gathering.py"),
    Mutant(WING + "data.py", "(-1 if fold is None else fold)", "(fold or 0)", RUNTIME_TESTS + "test_gathering.py"),
    Mutant(WING + "commands/intervals.py", "(1 / (count - 1) if folds else 0)", "0", "tests/test_repeat.py -k interval_of_folds"),
    Mutant(WING + "commands/intervals.py", "range(1 + odd, freedom, 2)", "range(1 + odd, freedom - 1, 2)", "tests/test_repeat.py -k quantiles"),
    Mutant(WING + "commands/repeat.py", '"trainer.limit_test_batches": 0', '"trainer.limit_test_batches": 1.0', "tests/test_repeat.py -k no_fold"),
    Mutant(WING + "commands/repeat.py", "elif items != other_items:", "elif items == other_items:", "tests/test_repeat.py -k run_by_run"),
    Mutant(WING + "commands/folds.py", "return result.to(outputs)", "return outputs", "tests/test_repeat.py -k ensemble_of_a_number"),
    Mutant(WING + "commands/folds.py", '"data.fold": None, "data.num_folds"', '"data.fold": 0, "data.num_folds"', "tests/test_repeat.py -k refit"),
    Mutant(WING + "commands/folds.py", "mean.check(mean.count > 0)", "pass", "tests/test_repeat.py -k does_not_call"),
    Mutant(WING + "schedule.py", "warmup = min(self.warmup_steps, total / 5)", "warmup = self.warmup_steps", RUNTIME_TESTS + "test_schedule.py"),
    Mutant(WING + "schedule.py", "0.5 * (1 + math.cos(math.pi * progress))", "(1 - progress)", RUNTIME_TESTS + "test_schedule.py"),
    # callbacks, loggers, trainer
    Mutant(WING + "callbacks.py", "trainer.current_epoch % self.every_n_epochs == 0", "True", RUNTIME_TESTS + "test_contract.py -k given_what"),
    Mutant(WING + "callbacks.py", "self._seconds += time.perf_counter() - self._since", "pass", RUNTIME_TESTS + "test_training.py -k items_of_all"),
    Mutant(WING + "trainer.py", "return means if differing else metrics", "return metrics", RUNTIME_TESTS + "test_runs.py -k averaged"),
    Mutant(WING + "trainer.py", 'self.run.end("interrupted" if interrupted else "failed"', 'self.run.end("finished"', RUNTIME_TESTS + "test_training.py -k not_finite"),
    Mutant(WING + "signals.py", '"SIGTERM": 143', '"SIGTERM": 0', "tests/test_checkpoints.py -k SIGTERM"),
    Mutant(WING + "predictions.py", "        except ValueError:\n            return f\"'{cell}\"\n    return cell", "        except ValueError:\n            return f\"'{cell}\"\n        return f\"'{cell}\"\n    return cell", RUNTIME_TESTS + "test_predictions.py -k spreadsheet"),
    Mutant(WING + "errors.py", 'return text if type(error).__name__ == "MisconfigurationException" else None', "return text", RUNTIME_TESTS + "test_training.py -k traceback"),
    Mutant(WING + "folders.py", "if (there := classes(folder)) != class_names:", "if False:", RUNTIME_TESTS + "test_folders.py"),
    Mutant(WING + "hardware.py", "{\"cpu\": 4 * (os.cpu_count() or 1)", "{\"cpu\": 10**9", RUNTIME_TESTS + "test_hardware.py"),
    Mutant(WING + "speed.py", "pl.__version__ in COMPARED", "True", "tests/test_speed.py -k release"),
    # the front
    Mutant(FRONT + "data.py", '(("val", of_val), ("train", ~of_val))', '(("val", of_val),)', "project/tests/test_data.py -k digits_are"),
    Mutant(FRONT + "data.py", "shift = height // 8", "shift = height // 2", "project/tests/test_data.py -k offsets"),
    Mutant(FRONT + "data.py", "(0.5 if self.about.flip else 0.0)", "0.5", "project/tests/test_data.py -k mirrored"),
    Mutant(FRONT + "module.py", "batch_size=len(labels), ", "batch_size=1, ", "project/tests/test_module.py -k last_batch"),
    # what a user's own classes get wrong
    Mutant(WING + "callbacks.py", "names.append(getattr(trainer.checkpoint_callback, \"monitor\", None) or \"\")", "pass", "tests/test_own_classes.py -k line_of_each and two"),
    Mutant(WING + "callbacks.py", "self._validated = self._validated or not trainer.sanity_checking", "self._validated = True", "tests/test_train.py -k no_validation"),
    Mutant(WING + "resume.py", "if self._lossless and pl_module.automatic_optimization:", "if False:", "tests/test_own_classes.py -k told_in_a_line"),
    Mutant(WING + "trainer.py", 'if self.subcommand != "fit":', "if False:", "tests/test_own_classes.py -k yields_nothing"),
    Mutant(WING + "commands/predict.py", "cli.datamodule) or paths]", "cli.datamodule)]", "tests/test_own_classes.py -k hyperparameters_alone"),
    Mutant(WING + "trainer.py", 'if args[0] == "fit" else ""', "", RUNTIME_TESTS + "test_training.py -k stopped"),
    # the hooks
    Mutant("hooks/pre_gen_project.py", '{"accelerator": ("mps",), "precision": ("64-true",)}', '{"accelerator": ("mps",), "precision": ("32-true",)}', "tests/test_hooks.py -k acceptable"),
    Mutant("hooks/pre_gen_project.py", "is too long", "is long", "tests/test_hooks.py -k cannot_be_quoted"),
    Mutant("hooks/post_gen_project.py", "if answers[\"torch_build\"] != \"default\":", "if False:", "tests/test_hooks.py -k name_its_index"),
)  # fmt: skip
MUTANTS = (*SURVIVED, *NEW)
