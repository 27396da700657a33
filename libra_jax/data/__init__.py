"""SeqIO tasks and packing: the only room that imports seqio or TensorFlow, and only when used."""
