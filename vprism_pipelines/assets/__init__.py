"""How it flows: Dagster assets, checks, jobs, schedules and sensors. Conducts; owns no logic."""
