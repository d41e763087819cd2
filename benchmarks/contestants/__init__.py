"""One file for each contestant: `train(task, watch)` trains `task.network()` as its documentation says."""
