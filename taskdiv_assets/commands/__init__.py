"""Commands of `taskdiv`. `cli` puts them together; each module here is one of three kinds.

Commands: `init`, `ui`, `doctor/`, and the groups `adapter_commands`, `annotation_commands`, `experiment_commands` (with `schema`)
and `verdict_commands`. They print through `consoles` and open experiments through `opening`.

Decisions, which print nothing: `running` schedules what is missing, `workers` execute it in processes (`worker_process`,
`stopping`, `orphans`), `planning` counts it (`benchmark_plan`), `preflight` checks the input, `checking` checks stored tables,
`next_steps` names the next command, `wanted` selects a part of an experiment. `proposal` and `proposal_checks` write a new
experiment file, `edits` compares an edited one, `stored_experiments` removes and renames, `trained_adapters` finds and copies.

Wording: `terminal` shows progress and plans, `annotation_messages` and `contract_warnings` make lines and tables.
"""
