"""The mistakes that ``make mutants`` makes: file, text, what the mistake makes of it, and the test that must fail."""

# ruff: noqa: E501 a row is a line
from mutants import Mutant

TESTS = "tests/library/"
RESUME = TESTS + "resume/test_resume.py"
SIGNALS = TESTS + "resume/test_saving.py"
EXACT = TESTS + "resume/test_exact.py"
RUNS = TESTS + "runs/test_runs.py"
FIT = TESTS + "commands/test_fit.py"
BATCHES = TESTS + "data/test_batches.py"
CONTRACT = TESTS + "test_contract.py"
OWN = TESTS + "test_own_classes.py"
TRACES = TESTS + "cli/test_tracebacks.py"
BEST = TESTS + "training/test_best_checkpoint.py"
CHOICES = TESTS + "training/test_callbacks.py"
PREDICTIONS = TESTS + "reports/test_predictions.py"

MUTANTS = (
    # checkpoints
    Mutant("resume/checkpoint_files.py", 'return torch.load(file, map_location="cpu", weights_only=True)', 'return torch.load(file, map_location="cpu", weights_only=False)', f"{RUNS} -k hostile"),
    Mutant("resume/checkpoint_files.py", "archive.testzip()", "None", f"{RESUME} -k bit"),
    Mutant("resume/checkpoint_files.py", 'in_epoch = epochs["started"] > epochs["processed"]', "in_epoch = True", f"{RESUME} -k train_longer"),
    Mutant("files.py", "os.replace(temporary, file)", "__import__('shutil').copy(temporary, file)", f"{TESTS}test_files.py"),
    Mutant("files.py", "os.fsync(stream.fileno())", "pass", f"{TESTS}test_files.py"),
    Mutant("files.py", "            os.replace(file, previous)", "            pass", f"{TESTS}test_files.py"),
    # exact resume
    Mutant("resume/callback.py", "before != trainer.world_size", "False", f"{RESUME} -k number_of_processes"),
    Mutant("resume/callback.py", "fit_loop._restarting = False", "pass", f"{EXACT} -k schedule"),
    Mutant("resume/callback.py", "steps - self.saved_at >= self.every_n_steps", "steps - self.saved_at > self.every_n_steps", f"{RESUME} -k state_is_saved"),
    Mutant("resume/callback.py", "if batch_idx % trainer.accumulate_grad_batches or ", "if ", f"{EXACT} -k gradients"),
    Mutant("resume/callback.py", "self._loss_check += 0 * loss.item()", "pass", f"{TESTS}resume/test_saving.py -k finite"),
    Mutant("resume/callback.py", "            trainer.should_stop = True", "            pass", f"{EXACT} -k early_stopping"),
    Mutant("resume/callback.py", 'getattr(logger, "flush", logger.save)()', "pass", f"{OWN} -k two_kills and plain"),
    Mutant("resume/checkpoint_state.py", 'result.cumulated_batch_size = before["cumulated_batch_size"] + result.cumulated_batch_size', "pass", f"{EXACT} -k without_a_step"),
    Mutant("resume/differences.py", 'not name.endswith("num_workers")', "True", f"{EXACT} -k fewer_workers"),
    Mutant("resume/differences.py", "if changes and not accept:", "if False:", f"{RESUME} -k keeps_its_options"),
    Mutant("resume/signals.py", '"SIGTERM": 143', '"SIGTERM": 0', f"{SIGNALS} -k SIGTERM"),
    Mutant("resume/signals.py", '"SIGUSR1": 75', '"SIGUSR1": 1', f"{SIGNALS} -k SIGUSR1"),
    Mutant("resume/signals.py", "(signum == signal.SIGINT and not is_first)", "False", f"{SIGNALS} -k second_ctrl"),
    # loaders and random numbers
    Mutant("resume/randomness.py", "np.random.seed(value & 0xFFFFFFFF)", "pass", f"{EXACT} -k random"),
    Mutant("resume/randomness.py", "    random.seed(value)", "    pass", f"{EXACT} -k random"),
    Mutant("resume/randomness.py", "return hash((key, number)) & (2**63 - 1)", "return hash(key) & (2**63 - 1)", f"{RESUME} -k each_item_once"),
    Mutant("resume/loaders.py", "return hash((*self.key, self.exact.trainer.global_rank))", "return hash(self.key)", f"{RESUME} -k random_numbers_of_its_own"),
    Mutant("resume/loaders.py", "done = exact.start[1] if epoch == exact.start[0] else 0", "done = 0", f"{EXACT} -k plain"),
    Mutant("training/speed.py", "if self.restarting or not self._ordinary or self.trainer.accumulate_grad_batches > 1:", "if self.restarting or not self._ordinary:", f"{EXACT} -k second_epoch"),
    # runs
    Mutant("runs/run.py", "if status == \"running\" and not self.in_use() else status", "if False else status", f"{RUNS} -k interrupted"),
    Mutant("runs/run.py", "except filelock.Timeout:\n            return True", "except filelock.Timeout:\n            return False", f"{RESUME} -k in_use"),
    Mutant("runs/run.py", 'or name.strip(".") == ""', "", f"{RUNS} -k bad_name"),
    Mutant("runs/run.py", '"dirty": any(not line', '"dirty": not any(not line', f"{RUNS} -k commit"),
    Mutant("runs/run.py", "key=lambda run: (str(run.record.get(\"started\", \"\")), run.name), reverse=True", "key=lambda run: (str(run.record.get(\"started\", \"\")), run.name)", f"{RUNS} -k newest"),
    Mutant("runs/run.py", " and not run.record.get(\"debug\")]", "]", f"{RUNS} -k debugging"),
    # the contract
    Mutant("contract.py", "inspect.signature(getattr(owner, name, METHODS[name])).bind(*[None] * count)", "pass", f"{CONTRACT} -k method"),
    Mutant("contract.py", ' and "/" not in parts[0]', "", f"{CONTRACT} -k headline"),
    Mutant("contract.py", 'data.setup("fit")', "pass", f"{TRACES} -k need_setup"),
    # loggers, and weights of another run
    Mutant("training/loggers.py", "value not in (*UNSET, defaults.get(name))", "True", f"{TESTS}training/test_loggers.py -k form"),
    Mutant("commands/trials.py", 'os.environ.setdefault("WANDB_RUN_GROUP", self.name)', "pass", f"{TESTS}cli/test_classes.py -k search"),
    Mutant("cli/run_cli.py", "if fit and options.weights and not self.ckpt_path:", "if fit and options.weights:", f"{TESTS}commands/test_weights.py -k again"),
    # what a user's own classes get wrong
    Mutant("training/progress.py", 'getattr(trainer.checkpoint_callback, "monitor", None)]', "None]", f"{OWN} -k line_of_each and two"),
    Mutant("cli/parser.py", "allow_abbrev=False", "allow_abbrev=True", f"{TESTS}cli/test_mistakes.py"),
    Mutant("cli/messages.py", "cutoff=0.6", "cutoff=0.99", f"{TESTS}cli/test_mistakes.py"),
    Mutant("cli/messages.py", "if not isinstance(error, UserError) and any(map(_is_own, _files(error))):", "if False:", f"{TRACES} -k own_code"),
    Mutant("commands/fit.py", "unused = not begun and isinstance(error, Exception) and is_mistake(error)", "unused = not begun", f"{TRACES} -k own_code"),
    Mutant("cli/parser.py", 'return re.sub(r"(?<![\\w.])lightning\\.pytorch\\.", "pytorch_lightning.", text)', "return text", f"{CHOICES} -k documentation"),
    # the best checkpoint, and what is monitored
    Mutant("training/callbacks.py", "if self._validated_at != trainer.global_step:", "if False:", f"{BEST} -k short"),
    Mutant("training/callbacks.py", "elif callback._save_on_train_epoch_end and trainer", "elif False and trainer", f"{BEST} -k between"),
    Mutant("training/callbacks.py", "config.frequency = between * math.ceil(config.frequency / between)", "pass", f"{CHOICES} -k plateau"),
    Mutant("training/callbacks.py", "if scheduler.total_steps < steps // config.frequency:", "if False:", f"{CHOICES} -k cycle"),
    Mutant("training/callbacks.py", "loaders, strict=False)", "loaders[:1], strict=False)", f"{FIT} -k items"),
    Mutant("training/progress.py", "if result.has_reset}", "if False}", f"{CHOICES} -k unfinished"),
    Mutant("resume/callback.py", "callback.save_last = False", "pass", f"{BEST} -k smoke"),
    Mutant("resume/callback.py", "elif not trainer.reload_dataloaders_every_n_epochs:", "else:", f"{CHOICES} -k built_again"),
    Mutant("resume/checkpoint_state.py", "if is_own and not isinstance(", "if False and not isinstance(", f"{EXACT} -k attributes"),
    Mutant("resume/checkpoint_state.py", "vars(owner).get(\"_non_persistent_buffers_set\", set())", "set()", f"{EXACT} -k attributes"),
    Mutant("resume/loaders.py", "seed_streams(value, others)", "seed_streams(value)", f"{EXACT} -k attributes"),
    Mutant("resume/checkpoint_state.py", "                setattr(owners[key], name, _decoded(value, current))", "                pass", f"{EXACT} -k attributes"),
    Mutant("cli/trainer_setup.py", "trainer.logger = bool(trainer.fast_dev_run)", "trainer.logger = False", f"{BEST} -k smoke"),
    # predictions and exports
    Mutant("reports/predictions.py", "count in (0, *sizes)", "True", f"{PREDICTIONS} -k whatever"),
    Mutant("reports/predictions.py", "if len(items | set(lengths.values())) > 1:", "if False:", f"{PREDICTIONS} -k cannot_be_a_column"),
    Mutant("reports/predictions.py", "dict.fromkeys(chain(*outputs))", "outputs[0]", f"{PREDICTIONS} -k whatever"),
    Mutant("training/callbacks.py", "return min(loader.batch_size,", "raise TypeError(", f"{FIT} -k items"),
    Mutant("reports/predictions.py", 'columns["dataloader"] = ', "_ = ", f"{PREDICTIONS} -k several_loaders"),
    Mutant("commands/export.py", "example = None if has_own else cli.model.example_input_array", "example = None", f"{TESTS}commands/test_export.py -k as_it_is"),
    Mutant("cli/run_cli.py", "        self.model.on_load_checkpoint(checkpoint)", "        pass", f"{TESTS}commands/test_export.py -k hooks"),
    # training
    Mutant("training/callbacks.py", 'trainer.strategy.reduce(torch.tensor(self._items, device=pl_module.device), reduce_op="sum")', "torch.tensor(self._items)", f"{FIT} -k items"),
    Mutant("training/callbacks.py", "self._seconds += time.perf_counter() - self._started", "pass", f"{FIT} -k items"),
    Mutant("training/callbacks.py", "trainer.current_epoch % self.every_n_epochs == 0", "True", CONTRACT),
    Mutant("training/schedules.py", "warmup = min(self.warmup_steps, total / 5)", "warmup = self.warmup_steps", f"{TESTS}training/test_schedules.py"),
    Mutant("training/schedules.py", "0.5 * (1 + math.cos(math.pi * progress))", "(1 - progress)", f"{TESTS}training/test_schedules.py"),
    Mutant("commands/fit.py", 'status = "interrupted" if isinstance(error, signals.Stopped) else "failed"', 'status = "failed"', f"{SIGNALS} -k in_a_step"),
    # files, pictures and tables
    Mutant("data/folders.py", 'return name.startswith((".", "~$")) or name.lower() in SYSTEM_NAMES', "return False", f"{TESTS}data/test_folders.py -k systems"),
    Mutant("data/folders.py", "followlinks=True", "followlinks=False", f"{TESTS}data/test_folders.py -k linked"),
    Mutant("data/pictures.py", 'picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)', "pass", f"{TESTS}data/test_pictures.py -k transparent"),
    Mutant("data/pictures.py", "else values // 256", "else values // max(1, values.max() // 256)", f"{TESTS}data/test_pictures.py -k other_types"),
    Mutant("masks/datasets.py", "(is_grey or is_apart)", "is_grey", f"{TESTS}masks/test_datasets.py -k seems"),
    Mutant("tables/reading.py", "delimiter=delimiter, strict=True", "delimiter=delimiter", f"{TESTS}tables/test_reading.py -k not_a_table"),
    Mutant("tables/reading.py", "not (differ and ", "(not differ and ", f"{TESTS}tables/test_columns.py -k silently"),
    Mutant("texts/reading.py", "if inner and all(", "if False and all(", f"{TESTS}texts/test_reading.py -k learned_from"),
    # data
    Mutant("data/batches.py", "[self.rank :: self.world_size][: len(self)", "[self.rank :][: len(self)", BATCHES),
    Mutant("data/batches.py", "shuffle = train and not (trainer and trainer.overfit_batches)", "shuffle = train", f"{BATCHES} -k overfitted"),
    Mutant("data/datamodule.py", 'order[np.argsort(labels[order], kind="stable")]', "order", f"{TESTS}data/test_datamodule.py -k share"),
    Mutant("reports/predictions.py", "order = index.argsort(stable=True)", "order = torch.arange(len(index))", f"{TESTS}reports/test_predictions.py -k sorted"),
    Mutant("reports/classification.py", "argsort(descending=True, stable=True)", "argsort(stable=True)", f"{TESTS}reports/test_classification.py -k surest"),
    Mutant("commands/export.py", "if difference > accepted:", "if False:", f"{TESTS}commands/test_export.py -k differs"),
    Mutant("commands/export.py", "tolerance * max(1.0, ", "tolerance * (", f"{TESTS}commands/test_export.py -k tolerance"),
    # sweep and repeat
    Mutant("commands/repeat.py", "(1 / (count - 1) if folds else 0)", "0", f"{TESTS}commands/test_repeat.py -k interval"),
    Mutant("commands/repeat.py", '"test": False}', '"test": True}', f"{TESTS}commands/test_repeat.py -k folds_are"),
    Mutant("commands/sweep.py", "MaxTrialsCallback(wanted, states=ENDED)", "MaxTrialsCallback(wanted, states=tuple(State))", f"{TESTS}commands/test_sweep.py -k failures"),
    Mutant("commands/sweep.py", '["--test=false"]', "[]", f"{TESTS}commands/test_sweep.py -k repeated"),
    Mutant("commands/sweep.py", "self.storage.set_trial_state_values(trial_id, State.WAITING)", "pass", f"{TESTS}commands/test_sweep.py -k killed"),
    Mutant("commands/trials.py", "if now.get(name) != before.get(name):", "if False:", f"{TESTS}commands/test_sweep.py -k changed_option"),
    # images
    Mutant("images/datasets.py", "(0.4914, 0.4822, 0.4465)", "(0.4914, 0.4465, 0.4822)", f"{TESTS}images/test_datasets.py -k published"),
    Mutant("images/augmentation.py", "height // 8", "height // 2", f"{TESTS}images/test_batches.py -k offsets"),
    # the hooks
    Mutant("hooks/pre_gen_project.py", '{"accelerator": ("mps",), "precision": ("64-true",)}', '{"accelerator": ("mps",), "precision": ("32-true",)}', "tests/test_hooks.py -k acceptable"),
    Mutant("hooks/post_gen_project.py", 'if answers["torch_build"] != "default":', "if False:", "tests/test_hooks.py -k build"),
)  # fmt: skip
