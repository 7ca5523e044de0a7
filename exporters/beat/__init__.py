"""Beat's schedules and whether beat sends what is due."""
