//! Hierarchical genome language models: layers, H-Net, states and checkpoints.
