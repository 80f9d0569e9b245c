"""The page's sections on chosen prompts and their answers. A list is the prompts that a strategy chose at one budget.

The page shows these sections before there are scores; a campaign's page keeps some of them later. They use only files of the
experiment: stored lists, the export ledger, and imported answers.
"""
