"""From a recipe to a job: config, data, models, method, run folder; every check before training begins."""
