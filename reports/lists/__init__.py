"""What was chosen and what came back: the report's first form, and what a campaign's page keeps of it once scores exist.

The experiment's own files alone are read: stored lists, the export ledger, imported answers.
"""
