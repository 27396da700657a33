"""What a run of learning draws, mixes and shows: groups of samples, kinds of data, a held-out slice, thoughts."""
