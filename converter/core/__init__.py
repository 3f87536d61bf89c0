"""Pure core: takes values and returns values. No open, print, clock, network or random."""
