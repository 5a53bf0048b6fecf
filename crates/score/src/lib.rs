//! Likelihood engine, language-model evaluation, variant scores, chunk tracks and baselines.
