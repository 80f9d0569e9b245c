"""Commands of `taskdiv`. `cli` combines them. There are three kinds of modules.

Commands: `init`, `ui`, `doctor/`, `adapter_commands`, `annotation_commands`, `experiment_commands` and `verdict_commands`. They
print with `consoles` and open experiments with `opening`.

Logic that prints nothing: `running`, `workers`, `worker_process`, `stopping` and `orphans` run an experiment. `planning`,
`benchmark_plan`, `preflight`, `next_steps` and `wanted` plan a run. `checking` checks stored tables. `proposal`,
`proposal_checks` and `edits` handle experiment files. `stored_experiments` and `trained_adapters` handle stored results.

Output: `terminal`, `annotation_messages` and `contract_warnings` make the lines and tables that commands print.
"""
