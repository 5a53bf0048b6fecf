//! Pretraining: loss, optimizer, schedule, loader, checkpoints and the run folder.
