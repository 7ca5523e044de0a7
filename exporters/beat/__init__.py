"""Beat's schedules, and whether beat sends the tasks that are due."""
