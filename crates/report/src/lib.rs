//! Plots of training and evaluation.
