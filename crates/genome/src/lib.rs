//! Sequences, coordinates, FASTA, GFF3, windows and the packed corpus of cistron.
