"""One protocol, judge(examples) -> judgements, and those who follow it."""
