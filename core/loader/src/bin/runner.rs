//! The child process on its own, for the tests of this crate and for a host that keeps it apart.

use std::process::ExitCode;

fn main() -> ExitCode {
    campanile_loader::runner::main()
}
