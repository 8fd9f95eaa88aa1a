#![allow(clippy::unwrap_used)] // The helpers of tests panic as tests do.

use campanile_plugin::{
    prelude::*,
    testing::{Harness, Sample, block_on, conformance},
};
use campanile_stdout::Stdout;

#[test]
fn passes_the_exam() {
    conformance::<Stdout>(&json!({ "prefix": "test> " }), &Sample::to("ada"));
}

#[test]
fn writes_a_line_and_says_so() {
    block_on(async {
        let stdout = Harness::<Stdout>::start(json!({})).await.unwrap();
        assert_eq!(stdout.deliver_ok(&Sample::to("ada").subject("one\nline\u{1b}[0m")).await, Receipt::new());
        stdout.stop().await;
    });
}
