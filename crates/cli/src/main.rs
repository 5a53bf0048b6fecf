//! The cistron command.
fn main() {}
