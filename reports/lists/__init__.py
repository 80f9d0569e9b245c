"""The page's sections on chosen prompts and their answers. A list is the prompts that a strategy chose at one budget.

The page shows these sections before there are scores. The page of a campaign with scores has only the section on progress.
"""
