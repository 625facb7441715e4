//! The binary `scaivault-server`.

use std::process::ExitCode;

fn main() -> ExitCode {
    scaivault_server::commands::run()
}
