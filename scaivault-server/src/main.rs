//! The binary `scaivault-server`.

fn main() {}
