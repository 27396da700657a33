"""One absl entry point for each job: main() parses, run(config, workdir) does."""
