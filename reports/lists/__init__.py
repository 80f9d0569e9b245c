"""Chosen prompts and their answers: the report before any score, and what a campaign's page keeps of it afterwards.

Only the experiment's own files are read: stored lists, the export ledger, imported answers.
"""
