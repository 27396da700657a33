"""What every stage's command line does alike: flags, help, --dry_run, the log and lock of its folder, exit codes."""
