"""The page's section on found tasks. The page shows it if tasks were found in the texts of the prompts."""
