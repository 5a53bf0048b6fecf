//! Genome-browser tracks: bigWig, bedGraph and BED writers.
