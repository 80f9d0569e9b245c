"""Discovery of tasks in a pool without task labels: groups of prompts that are similar in a view.

A view is a function from prompts to rows of numbers (`word_views`). `clusters` groups the rows, `naming` describes the groups,
`agreement` measures how much they depend on chance, and `found_tasks` combines these steps. `labelling` makes task_labels.
The result does not depend on the order of the pool or on the number of threads.
"""
