"""Cost of variants before they run: time, disk, memory, and the stages and folds that would run."""
