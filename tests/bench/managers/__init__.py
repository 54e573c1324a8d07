"""The comparison with PM2 as a manager of processes: the same programs under both, in the same run."""
